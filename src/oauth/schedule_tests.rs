use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::oauth::trial::{Definition, app, now};

const REFRESHED: Definition = Definition {
    kind: "oauth2",
    auth: "",
    oauth2: "refresh = { rotates = true }",
    properties: &[],
};

fn due(oauth2: &'static str, kind: &'static str, expires: Expiry, random: f64) -> Option<u64> {
    let app = app(&Definition { kind, oauth2, ..REFRESHED });
    let due = next_refresh(app.default_auth(), now(), expires, random)?;
    Some(due.duration_since(now()).expect("later").as_secs())
}

fn after(seconds: u64) -> Expiry {
    Expiry::At(now() + Duration::from_secs(seconds))
}

#[test]
fn a_refresh_is_due_well_before_the_end_and_spread() {
    for (life, earliest, latest) in
        [(60, 30, 39), (299, 149, 194), (3600, 2700, 3000), (30_000, 29_100, 29_400), (0, 30, 30)]
    {
        let at = |random| due(REFRESHED.oauth2, "oauth2", after(life), random).expect("is due");
        assert_eq!((at(0.0), at(1.0)), (earliest, latest), "{life}");
        assert!((earliest..=latest).contains(&at(0.5)), "{life}");
        assert!((earliest..=latest).contains(&at(f64::NAN)), "{life}");
    }
}

#[test]
fn the_definition_knows_better() {
    for (oauth2, expires, wanted) in [
        ("refresh = { lead = 30 }", after(600), Some(570)),
        ("refresh = { min_interval = \"570s\" }", after(600), Some(570)),
        ("refresh = { idle_ttl = \"30m\" }", Expiry::Never, Some(600)),
        ("refresh = { idle_ttl = \"60d\" }", Expiry::Unknown, Some(86_400)),
        ("refresh = { idle_ttl = \"90d\" }", after(600), Some(480)),
        ("refresh = { supported = true }", Expiry::Never, None),
        ("refresh = { supported = true }", Expiry::Unknown, None),
        ("refresh = { supported = false }", after(600), None),
        ("", after(600), None),
    ] {
        assert_eq!(due(oauth2, "oauth2", expires, 1.0), wanted, "{oauth2}");
    }
    assert_eq!(due("", "oauth2_client_credentials", after(600), 1.0), Some(480));
}

#[test]
fn the_end_of_time_is_no_panic() {
    let app = app(&REFRESHED);
    for end in [UNIX_EPOCH, now() + Duration::from_secs(1 << 40)] {
        assert!(next_refresh(app.default_auth(), now(), Expiry::At(end), 0.3).is_some());
    }
}

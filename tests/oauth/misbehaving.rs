//! What the engine makes of servers that do not behave.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign::oauth::{Callback, Class, Expiry, Poll, Revoked, TokenError};
use countersign::secret::Secret;
use countersign::vault::Tokens;
use serde_json::json;

use super::provider::{Failure, Provider, Shape};
use super::{REDIRECT, Site, tokens};

const PLAIN: &str = r#"authorize_url = "{as}/authorize"
token_url = "{as}/token"
revoke_url = "{as}/revoke"
device_authorization_url = "{as}/device"
refresh = { rotates = true }"#;

async fn site(more: &str) -> (Provider, Site) {
    let provider = Provider::start().await;
    let site = Site::new(provider.address, "oauth2", &format!("{PLAIN}\n{more}"));
    (provider, site)
}

fn seeded(provider: &Provider) -> Tokens {
    let (access, refresh) = provider.seed();
    tokens(&Secret::from(access), Some(&Secret::from(refresh)))
}

/// Every error's text is shown to people, so none may repeat what was sent.
fn assert_silent(error: &TokenError) {
    let text = format!("{error} {error:?}");
    for secret in ["client-secret-1", "refresh-token", "access-token", "code-token"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn a_code_is_traded_once_and_with_its_verifier() {
    let (provider, site) = site("").await;
    let terms = site.terms(&[]);
    let authorization = site.engine.authorize(&terms, REDIRECT, &[]).expect("authorizes");
    assert!(authorization.state.expose().len() >= 22, "128 bit or more");
    let verifier = authorization.verifier.as_ref().expect("PKCE is on");
    assert!((43..=128).contains(&verifier.expose().len()));
    assert!(!authorization.url.contains(verifier.expose()), "the verifier stays here");

    let params = super::certified::browse(provider.address, &authorization.url).await;
    assert_eq!(params["state"], authorization.state.expose());
    let callback = |verifier: Option<Secret>| {
        let (params, redirect_uri) = (params.clone(), REDIRECT.to_owned());
        Callback { params, verifier, redirect_uri }
    };
    let got = site.engine.exchange(&terms, &callback(authorization.verifier.clone())).await;
    let got = got.unwrap_or_else(|error| panic!("{error}"));
    assert!(provider.accepts(got.access.expose()) && got.refresh.is_some());

    let again = site.engine.exchange(&terms, &callback(authorization.verifier)).await;
    let error = again.err().expect("a code is good once");
    assert_eq!((error.class, error.code.as_str()), (Class::Dead, "invalid_grant"));
    assert_silent(&error);
}

#[tokio::test]
async fn rotation_is_followed_and_reuse_ends_the_grant() {
    let (provider, site) = site("").await;
    let terms = site.terms(&[]);
    let first = seeded(&provider);
    let second = site.engine.renew(&terms, Some(&first)).await.unwrap_or_else(|e| panic!("{e}"));
    let held = tokens(&second.access, second.refresh.as_ref());
    let third = site.engine.renew(&terms, Some(&held)).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(provider.accepts(third.access.expose()));

    let error = site.engine.renew(&terms, Some(&first)).await.err().expect("is spent");
    assert_eq!((error.class, error.sent), (Class::Dead, true));
    assert_silent(&error);
    assert!(!provider.accepts(third.access.expose()), "the whole grant is gone");
}

#[tokio::test]
async fn the_old_refresh_token_stays_when_none_comes() {
    let (provider, site) = site("").await;
    provider.behave(|behaviour| behaviour.rotates = false);
    let held = seeded(&provider);
    let got = site.engine.renew(&site.terms(&[]), Some(&held)).await;
    assert!(got.unwrap_or_else(|error| panic!("{error}")).refresh.is_none());
}

#[tokio::test]
async fn answers_of_every_shape_are_read() {
    let below = r#"token_fields = { access_token = "/data/access_token" }"#;
    for (shape, more) in [(Shape::Form, ""), (Shape::Json, ""), (Shape::Below("data"), below)] {
        let (provider, site) = site(more).await;
        provider.behave(|behaviour| behaviour.shape = shape.clone());
        let got = site.engine.renew(&site.terms(&[]), Some(&seeded(&provider))).await;
        let got = got.unwrap_or_else(|error| panic!("{shape:?}: {error}"));
        assert!(provider.accepts(got.access.expose()), "{shape:?}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_worth_another_try() {
    let answer = |status, body: &str| Failure::Answer {
        status,
        headers: vec![("location", "/redirected".to_owned())],
        body: body.to_owned(),
    };
    let large = "x".repeat(2 * 1024 * 1024);
    let deep = "[".repeat(100_000);
    for (failure, code) in [
        (answer(200, ""), "unreadable"),
        (answer(200, "<html>no</html>"), "unreadable"),
        (answer(200, r#"{"access_token":null}"#), "unreadable"),
        (answer(200, r#"{"access_token":"a\r\nb"}"#), "unreadable"),
        (answer(200, &large), "unreadable"),
        (answer(200, &deep), "unreadable"),
        (answer(302, ""), "redirect"),
        (answer(307, ""), "redirect"),
        (answer(500, r#"{"error":"invalid_grant"}"#), "invalid_grant"),
        (answer(400, "<html>"), "unreadable"),
        (Failure::LostAfterwards, "unreachable"),
    ] {
        let (provider, site) = site("").await;
        provider.behave(|behaviour| behaviour.failures.push_back(failure));
        let error = site.engine.renew(&site.terms(&[]), Some(&seeded(&provider))).await;
        let error = error.err().unwrap_or_else(|| panic!("{code}: tokens came"));
        assert_eq!((error.class, error.code.as_str()), (Class::Transient, code), "{error}");
        assert!(error.sent, "a one-time token may be spent");
        assert_silent(&error);
        assert_eq!(provider.calls("/redirected").len(), 0, "no redirect is followed");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_was_sent_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let address = listener.local_addr().expect("is bound");
    drop(listener);
    let site = Site::new(address, "oauth2", PLAIN);
    let held = tokens(&Secret::from("a".to_owned()), Some(&Secret::from("r".to_owned())));
    let error = site.engine.renew(&site.terms(&[]), Some(&held)).await.err().expect("is down");
    assert_eq!((error.class, error.sent), (Class::Transient, false), "{error}");
}

#[tokio::test]
async fn a_pause_that_the_server_asked_for_is_kept_for_all_accounts() {
    let (provider, site) = site("").await;
    let headers = vec![("retry-after", "3600".to_owned())];
    let failure = Failure::Answer { status: 429, headers, body: String::new() };
    provider.behave(|behaviour| behaviour.failures.push_back(failure));
    let (one, other) = (seeded(&provider), seeded(&provider));
    let terms = site.terms(&[]);
    let error = site.engine.renew(&terms, Some(&one)).await.err().expect("is limited");
    assert_eq!(error.retry_after, Some(Duration::from_secs(3600)));
    let error = site.engine.renew(&terms, Some(&other)).await.err().expect("is limited");
    assert!(!error.sent && error.retry_after.is_some_and(|left| left > Duration::from_secs(3500)));
    assert_eq!(provider.calls("/token").len(), 1);
}

#[tokio::test]
async fn no_more_calls_at_a_time_than_the_definition_allows() {
    let (provider, site) = site("max_concurrency = 1").await;
    provider.behave(|behaviour| behaviour.delay = Duration::from_millis(60));
    let held: Vec<_> = (0..4).map(|_| seeded(&provider)).collect();
    let terms = site.terms(&[]);
    let began = std::time::Instant::now();
    let all = held.iter().map(|tokens| site.engine.renew(&terms, Some(tokens)));
    let done = futures_util::future::join_all(all).await;
    assert!(done.iter().all(Result::is_ok));
    assert!(began.elapsed() >= Duration::from_millis(4 * 60), "one after the other");
}

#[tokio::test]
async fn lifetimes_of_every_kind_end_somewhere() {
    for (told, life) in [
        (json!(3600), Some(3600)),
        (json!("3600"), Some(3600)),
        (json!(3600.5), Some(3600)),
        (json!(0), Some(0)),
        (json!(-1), Some(0)),
        (json!(1e30), None),
        (json!("soon"), None),
        (json!(null), None),
    ] {
        let (provider, site) = site("").await;
        provider.behave(|behaviour| behaviour.expires_in = told.clone());
        let got = site.engine.renew(&site.terms(&[]), Some(&seeded(&provider))).await;
        let got = got.unwrap_or_else(|error| panic!("{told}: {error}"));
        let found = match got.expires {
            Expiry::At(at) => Some(at.duration_since(got.obtained_at).expect("later").as_secs()),
            Expiry::Never | Expiry::Unknown => None,
        };
        assert_eq!(found, life, "{told}");
    }
}

#[tokio::test]
async fn a_wrong_client_secret_is_no_accounts_fault() {
    let (provider, mut site) = site("").await;
    site.client.secret = Some(Secret::from("wrong-secret".to_owned()));
    let error = site.engine.renew(&site.terms(&[]), Some(&seeded(&provider))).await.err();
    let error = error.expect("is refused");
    assert_eq!((error.class, error.code.as_str()), (Class::Client, "invalid_client"));
}

#[tokio::test]
async fn a_device_is_asked_step_by_step() {
    let (provider, site) = site("").await;
    let terms = site.terms(&[]);
    let device = site.engine.begin_device(&terms, &[]).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(device.interval, Duration::from_secs(5), "what the norm says when nothing is said");
    let poll = site.engine.poll_device(&terms, &device).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(matches!(poll, Poll::Pending));
    provider.confirm_device(&device.user_code);
    let poll = site.engine.poll_device(&terms, &device).await.unwrap_or_else(|e| panic!("{e}"));
    let Poll::Done(got) = poll else { panic!("was confirmed") };
    assert!(provider.accepts(got.access.expose()));
}

#[tokio::test]
async fn a_revoked_grant_is_gone_at_the_provider() {
    let (provider, site) = site("").await;
    let held = seeded(&provider);
    let revoked = site.engine.revoke(&site.terms(&[]), &held).await;
    assert_eq!(revoked.unwrap_or_else(|error| panic!("{error}")), Revoked::Done);
    assert!(!provider.accepts(held.access.expose()));
    assert_eq!(provider.calls("/revoke").len(), 2, "both tokens");
}

#[tokio::test]
async fn a_follow_up_learns_what_the_token_does_not_say() {
    let follow = r#"post_exchange = [{ url = "{as}/sites", capture = [{ path = "/0/id", as = "site", choose = true }] }]"#;
    let (provider, site) = site(follow).await;
    let params = BTreeMap::from([("code".to_owned(), "none".to_owned())]);
    let callback = Callback { params, verifier: None, redirect_uri: REDIRECT.to_owned() };
    assert!(site.engine.exchange(&site.terms(&[]), &callback).await.is_err());
    assert_eq!(provider.calls("/sites").len(), 0, "nothing follows a refusal");

    let device = site.engine.begin_device(&site.terms(&[]), &[]).await;
    let device = device.unwrap_or_else(|error| panic!("{error}"));
    provider.confirm_device(&device.user_code);
    let poll = site.engine.poll_device(&site.terms(&[]), &device).await;
    let Poll::Done(got) = poll.unwrap_or_else(|error| panic!("{error}")) else { panic!("done") };
    assert_eq!(got.fields["site"], "s1");
    assert_eq!(got.choices["site"], ["s1", "s2"]);
    let bearer = format!("Bearer {}", got.access.expose());
    assert_eq!(provider.calls("/sites")[0].headers["authorization"], bearer.as_str());
}

use super::*;
use crate::catalog::{Catalog, parse};

/// An app whose one auth lists these hosts; `sub` and `host` are its fields.
fn app(id: &str, hosts: &[&str]) -> Arc<App> {
    let hosts: Vec<_> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
    let text = format!(
        r#"
        id = "{id}"
        name = "{id}"
        description = "for a test"
        [auth.key]
        kind = "api_key"
        hosts = [{}]
        base_url = "https://x.test"
        attach = []
        fields = [
            {{ name = "sub", label = "Subdomain", secret = false }},
            {{ name = "host", label = "Host", kind = "host", secret = false }},
        ]
        "#,
        hosts.join(", ")
    );
    Arc::new(parse::app(&format!("{id}.toml"), &text).expect("parses"))
}

fn index(apps: &[(&str, &[&str])]) -> HostIndex {
    let apps: Vec<_> = apps.iter().map(|(id, hosts)| app(id, hosts)).collect();
    HostIndex::build(&apps).expect("no overlap")
}

fn owner<'a>(index: &'a HostIndex, host: &str, port: u16, path: &str) -> Option<&'a str> {
    let claims = index.claims(&host.parse().expect(host));
    claims.owner(port, path).map(|app| app.id.as_str())
}

#[test]
fn the_exact_name_comes_before_the_longest_template() {
    let index = index(&[
        ("api", &["api.acme.test"]),
        ("tenant", &["{sub}.acme.test"]),
        ("deep", &["{sub}.eu.acme.test"]),
        ("affix", &["{sub}-x.acme.test"]),
    ]);
    for (host, expected) in [
        ("api.acme.test", Some("api")),
        ("API.Acme.Test.", Some("api")),
        ("other.acme.test", Some("tenant")),
        ("a.eu.acme.test", Some("deep")),
        ("a-x.acme.test", Some("affix")),
        ("a-x.acme.test.example", None),
        ("a.b.acme.test", None),
        ("acme.test", None),
        ("a.acme.test.evil.test", None),
        ("127.0.0.1", None),
    ] {
        assert_eq!(owner(&index, host, 443, "/"), expected, "{host}");
    }
}

#[test]
fn the_longest_prefix_owns_a_path() {
    let index = index(&[
        ("all", &["acme.test"]),
        ("mail", &["acme.test/mail/"]),
        ("sent", &["acme.test/mail/sent/"]),
        ("other", &["acme.test:8443/mail/"]),
    ]);
    for (port, path, expected) in [
        (443, "/", Some("all")),
        (443, "/mail", Some("mail")),
        (443, "/mail/x", Some("mail")),
        (443, "/mail/sent/x", Some("sent")),
        (443, "/mailbox", Some("all")),
        (443, "/Mail/", Some("all")),
        // A path that may escape is under no prefix; who claims the whole host may still have it.
        (443, "/mail/%2e%2e/x", Some("all")),
        (443, "/mail//x", Some("all")),
        (443, "/mail/..;/x", Some("all")),
        (8443, "/mail/x", Some("other")),
        (8443, "/mail/%2e%2e/x", None),
        (8443, "/mail/x%5c..", None),
        (8443, "/", None),
        (80, "/mail/x", None),
    ] {
        assert_eq!(owner(&index, "acme.test", port, path), expected, "{port} {path}");
    }
}

#[test]
fn claims_list_each_app_and_port_once() {
    let index = index(&[
        ("one", &["acme.test", "acme.test/x/", "http://acme.test:8080"]),
        ("two", &["acme.test/y/"]),
    ]);
    let claims = index.claims(&"acme.test".parse().expect("a host"));
    let mut apps: Vec<_> = claims.apps().map(|app| app.id.as_str()).collect();
    apps.sort_unstable();
    let mut ports: Vec<_> = claims.ports().collect();
    ports.sort_unstable();
    assert_eq!((apps, ports), (vec!["one", "two"], vec![443, 8080]));
    assert!(claims.allows_clear_text() && claims.allows_clear_text_on(8080));
    assert!(!claims.allows_clear_text_on(443) && !claims.is_empty());
    assert!(index.claims(&"other.test".parse().expect("a host")).is_empty());
}

#[test]
fn accounts_bring_the_hosts_of_apps_that_have_none() {
    let own = app("own", &["{host}"]);
    let apps = [own.clone(), app("acme", &["acme.test"])];
    let index = HostIndex::build(&apps).expect("no overlap");
    assert_eq!(owner(&index, "git.corp.test", 443, "/"), None);
    let origin = |host: &str| {
        own.auths[0].hosts[0].render(|_| Some(host)).map(|origin| (origin, own.clone()))
    };
    let both = [origin("git.corp.test").expect("ok"), origin("git.corp.test").expect("ok")];
    let with = index.with_accounts(both).expect("one app may list a host twice");
    assert_eq!(owner(&with, "git.corp.test", 443, "/"), Some("own"));
    let taken = index.with_accounts([origin("acme.test").expect("ok")]).expect_err("taken");
    assert!(taken[0].text.contains("own.toml") && taken[0].text.contains("acme.toml"));
}

#[test]
fn an_empty_catalog_owns_nothing() {
    let catalog = Catalog::default();
    assert!(catalog.index().claims(&"a.test".parse().expect("a host")).is_empty());
}

#[test]
fn an_open_host_is_nobodys_but_to_callers_of_its_app() {
    let text = r#"
        id = "cloud"
        name = "Cloud"
        description = "for a test"
        [auth.key]
        kind = "aws_sigv4"
        hosts = ["sts.cloud.test", "x-{shop}.cloud.test", "{service}.cloud.test"]
        base_url = "https://sts.cloud.test"
        attach = [{ aws_sigv4 = {} }]
        fields = [
            { name = "access_key_id", label = "Key" },
            { name = "secret_access_key", label = "Key" },
            { name = "shop", label = "Shop", secret = false },
            { name = "service", label = "Service", from = "request", pattern = "^[a-z-]+$", secret = false },
        ]
    "#;
    let app = Arc::new(parse::app("cloud.toml", text).expect("parses"));
    let index = HostIndex::build([&app]).expect("no overlap");
    for (host, to_holders, to_others) in [
        ("sqs.cloud.test", true, false),
        ("x-a.cloud.test", true, false),
        ("x-1.cloud.test", true, true),
        ("sts.cloud.test", true, true),
        ("a.b.cloud.test", false, false),
    ] {
        let host = host.parse().expect(host);
        assert_eq!(!index.claims_for(&host, |_| true).is_empty(), to_holders, "{host:?}");
        assert_eq!(!index.claims_for(&host, |_| false).is_empty(), to_others, "{host:?}");
    }
}

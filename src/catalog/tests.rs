use super::*;

fn file(name: &str, text: &str) -> (String, String) {
    (name.to_owned(), text.to_owned())
}

/// An app with one header, on these hosts.
fn app(id: &str, hosts: &str, base_url: &str) -> (String, String) {
    let text = format!(
        r#"
        id = "{id}"
        name = "{id}"
        description = "for a test"
        [auth.key]
        kind = "api_key"
        hosts = [{hosts}]
        base_url = "{base_url}"
        attach = [{{ header = "x-key", value = "{{key}}" }}]
        [[auth.key.fields]]
        name = "key"
        label = "Key"
        [[auth.key.fields]]
        name = "sub"
        label = "Subdomain"
        secret = false
        "#
    );
    (format!("{id}.toml"), text)
}

#[test]
fn every_embedded_app_loads_and_lints_clean() {
    let catalog = Catalog::embedded().unwrap_or_else(|mistakes| {
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    });
    assert!(catalog.apps().count() >= 26);
    assert_eq!(catalog.warnings(), []);
    assert_eq!(catalog.apps().count(), catalog.len(), "every definition reads");
    for app in catalog.apps() {
        assert_eq!(app.file, format!("{}/{}.toml", &app.id.as_str()[..1], app.id));
        assert!(app.auths.iter().all(|auth| !auth.hosts.is_empty()), "{}", app.id);
    }
}

/// `build.rs` reads definitions in its own way; what it says of them must be what they say.
#[test]
fn the_packed_catalog_is_the_catalog_of_its_files() {
    let packed = Catalog::embedded().expect("the embedded apps load");
    let read = Catalog::build(Catalog::embedded_files()).unwrap_or_else(|mistakes| {
        let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    });
    let card = |card: &Card| format!("{card:?}").replace("Borrowed", "Owned");
    for (packed, read) in packed.cards().zip(read.cards()) {
        assert_eq!(card(packed), card(read));
    }
    assert_eq!(packed.len(), read.len());
    packed.index().assert_same_as(read.index());
}

#[test]
fn the_embedded_apps_own_the_hosts_that_people_call() {
    let catalog = Catalog::embedded().expect("the embedded apps load");
    for (host, path, owner) in [
        ("slack.com", "/api/chat.postMessage", Some("slack")),
        ("slack.com", "/oauth/v2/authorize", None),
        ("files.slack.com", "/files-pri/x", Some("slack")),
        ("www.googleapis.com", "/drive/v3/files", Some("google_drive")),
        ("www.googleapis.com", "/upload/drive/v3/files", Some("google_drive")),
        ("www.googleapis.com", "/gmail/v1/users/me", Some("gmail")),
        ("www.googleapis.com", "/calendar/v3", Some("google_calendar")),
        ("www.googleapis.com", "/drive/../gmail/v1", None),
        ("acme.zendesk.com", "/api/v2/users/me.json", Some("zendesk")),
        ("a.b.zendesk.com", "/api/v2/users/me.json", None),
        ("acme.zendesk.com.evil.test", "/", None),
        ("acme.myshopify.com", "/admin/api/2024-07/shop.json", Some("shopify")),
        ("acme.myshopify.com", "/cart", None),
        ("us21.api.mailchimp.com", "/3.0/", Some("mailchimp")),
        ("api.datadoghq.eu", "/api/v1/validate", Some("datadog")),
        ("api.datadoghq.evil", "/api/v1/validate", None),
        ("myapp-dsn.algolia.net", "/1/indexes", Some("algolia")),
        ("api.atlassian.com", "/me", Some("jira")),
        ("api.atlassian.com", "/media", Some("atlassian")),
        ("github.com", "/o/r.git/info/refs", Some("github")),
    ] {
        let host: Host = host.parse().expect(host);
        let found = catalog.index().claims(&host).owner(443, path).map(|app| app.id.as_str());
        assert_eq!(found, owner, "{host}{path}");
    }
}

#[test]
fn github_gets_basic_for_git_and_nothing_for_web_pages() {
    let catalog = Catalog::embedded().expect("the embedded apps load");
    let auth = catalog.app("github").and_then(|app| app.auth("token")).expect("github token");
    for (host, path, choice) in [
        ("api.github.com", "/user", Choice::Usual),
        ("api.github.com", "/repos/o/r/contents/a%2fb", Choice::Usual),
        ("github.com", "/o/r.git/info/refs", Choice::Exception(0)),
        ("github.com", "/o/r.git/git-receive-pack", Choice::Exception(0)),
        ("github.com", "/o/r.git/info/lfs/objects/batch", Choice::Exception(0)),
        ("github.com", "/login", Choice::Exception(1)),
        ("github.com", "/o/r", Choice::Exception(1)),
        ("github.com", "/o/../info/refs", Choice::Unclear),
    ] {
        assert_eq!(auth.choice(&host.parse().expect(host), 443, path), choice, "{host}{path}");
    }
    assert!(auth.attachments(Choice::Exception(1)).is_empty());
    assert!(auth.attachments(Choice::Unclear).is_empty());
    assert_eq!(auth.attachments(Choice::Exception(0)).len(), 1);
}

#[test]
fn two_apps_with_one_host_are_a_mistake_that_names_both_files() {
    let one = app("one", r#""api.acme.test""#, "https://api.acme.test");
    for (hosts, base_url, overlaps) in [
        (r#""api.acme.test""#, "https://api.acme.test", true),
        (r#""API.acme.test:443/""#, "https://api.acme.test", true),
        (r#""api.acme.test/v2/""#, "https://api.acme.test/v2", false),
        (r#""api.acme.test:8443""#, "https://api.acme.test:8443", false),
        (r#""{sub}.acme.test""#, "https://{sub}.acme.test", false),
    ] {
        let found = Catalog::build([one.clone(), app("two", hosts, base_url)]);
        let Err(mistakes) = found else {
            assert!(!overlaps, "{hosts}");
            continue;
        };
        let text = mistakes[0].to_string();
        assert!(overlaps && text.contains("one.toml") && text.contains("two.toml"), "{text}");
    }
}

#[test]
fn templates_overlap_whatever_their_fields_are_called() {
    let one = app("one", r#""{sub}.acme.test""#, "https://{sub}.acme.test");
    let (name, text) = app("two", r#""{sub}.acme.test""#, "https://{sub}.acme.test");
    let two = (name, text.replace("{sub}", "{site}").replace("\"sub\"", "\"site\""));
    assert!(Catalog::build([one, two]).is_err());
}

#[test]
fn a_later_file_replaces_an_earlier_one_with_the_same_id() {
    let first = app("one", r#""a.acme.test""#, "https://a.acme.test");
    let second = app("one", r#""b.acme.test""#, "https://b.acme.test");
    let catalog = Catalog::build([first, second]).expect("loads");
    let owned = |host: &str| !catalog.index().claims(&host.parse().expect(host)).is_empty();
    assert!(!owned("a.acme.test") && owned("b.acme.test"));
}

#[test]
fn every_mistake_of_every_file_is_reported_at_once() {
    let (name, text) = app("one", r#""a.acme.test""#, "https://a.acme.test");
    let broken = (name, text.replace("kind = ", "kinds = "));
    let mistakes = Catalog::build([broken, file("two.toml", "id = ")]).expect_err("broken");
    let files: Vec<_> = mistakes.iter().map(|mistake| mistake.file.as_str()).collect();
    assert!(files.contains(&"one.toml") && files.contains(&"two.toml"), "{mistakes:?}");
}

#[test]
fn a_field_takes_what_its_definition_allows() {
    let catalog = Catalog::embedded().expect("the embedded apps load");
    for (app, auth, field, value, valid) in [
        ("slack", "bot_token", "bot_token", "xoxb-1", true),
        ("slack", "bot_token", "bot_token", "1", false),
        ("datadog", "api_key", "region", "datadoghq.eu", true),
        ("datadog", "api_key", "region", "evil.test", false),
        ("twilio", "api_key", "AccountSid", "AC0123456789abcdef0123456789abcdef", true),
        ("twilio", "api_key", "AccountSid", "AC0123456789abcdef0123456789abcdef/../x", false),
    ] {
        let auth = catalog.app(app).and_then(|app| app.auth(auth)).expect(app);
        let field = auth.field(field).expect(field);
        assert_eq!(field.check(value).is_ok(), valid, "{value}");
    }
}

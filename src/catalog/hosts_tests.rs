use proptest::prelude::*;

use super::*;
use crate::catalog::FieldOrigin;

fn field(name: &str) -> Field {
    Field {
        name: name.to_owned(),
        label: name.to_owned(),
        help: None,
        placeholder: None,
        secret: false,
        optional: false,
        kind: FieldKind::Text,
        pattern: None,
        default: None,
        choices: Vec::new(),
        origin: FieldOrigin::Asked,
    }
}

fn fields() -> Vec<Field> {
    let pattern = |text| Some(Pattern::new(text).expect(text));
    let rule = |suffix: &str, addresses| HostRule { suffixes: vec![suffix.to_owned()], addresses };
    vec![
        field("sub"),
        Field { pattern: pattern(".*"), ..field("loose") },
        Field { pattern: pattern(r"^[a-z]+(\.[a-z]+)*$"), ..field("dc") },
        Field { choices: vec!["a.test".into(), "b.example".into()], ..field("site") },
        Field { kind: FieldKind::Host(HostRule::default()), ..field("host") },
        Field { kind: FieldKind::Url(HostRule::default()), ..field("url") },
        Field { kind: FieldKind::Host(rule(".docusign.net", false)), ..field("pinned") },
        Field {
            kind: FieldKind::Host(HostRule { suffixes: vec![], addresses: true }),
            ..field("camera")
        },
    ]
}

fn render(pattern: &str, value: &str) -> Result<String, Error> {
    let pattern = HostPattern::parse(pattern, &fields()).expect(pattern);
    pattern.render(|_| Some(value)).map(|origin| origin.to_string())
}

#[test]
fn a_host_entry_says_scheme_host_port_and_prefix() {
    for (text, shown, port) in [
        ("API.acme.test", "api.acme.test", 443),
        ("https://api.acme.test/", "api.acme.test", 443),
        ("api.acme.test:8443/v1", "api.acme.test:8443/v1/", 8443),
        ("http://localhost:8080/x/", "http://localhost:8080/x/", 8080),
        ("http://api.acme.test", "http://api.acme.test", 80),
        ("{sub}.acme.test/api/", "{sub}.acme.test/api/", 443),
        ("{url.host}", "{url}", 443),
        ("[::1]:8080", "[::1]:8080", 8080),
    ] {
        let pattern = HostPattern::parse(text, &fields()).expect(text);
        assert_eq!((pattern.to_string().as_str(), pattern.port), (shown, port), "{text}");
    }
}

#[test]
fn a_host_entry_that_says_something_else_is_refused() {
    for text in [
        "",
        "*.acme.test",
        "ftp://acme.test",
        "acme.test:0",
        "acme.test:0443",
        "acme.test:",
        "u@acme.test",
        "{other}.acme.test",
        "{sub.acme.test",
        "acme.test/../x/",
        "acme.test/a//b",
        "acme.test/{sub}/",
        "acme.test/%2e%2e/",
        "acme test",
        ".acme.test",
        "bücher.example",
    ] {
        assert!(HostPattern::parse(text, &fields()).is_err(), "{text}");
    }
}

#[test]
fn a_label_is_letters_digits_and_hyphens_whatever_the_pattern_says() {
    for template in ["{sub}.acme.test", "{loose}.acme.test"] {
        assert_eq!(render(template, "Acme-1"), Ok("acme-1.acme.test".to_owned()));
        for value in [
            "",
            "a/b",
            "a#",
            "a?x",
            "a:443",
            "a@b",
            "-a",
            "a-",
            "a_b",
            "a%2e",
            "é",
            "a\n",
            " a",
            "evil.test/",
            "evil.test#",
            &"a".repeat(64),
        ] {
            assert!(render(template, value).is_err(), "{template} {value:?}");
        }
    }
    assert!(render("{sub}.acme.test", "a.b").is_err());
}

#[test]
fn a_pattern_with_dots_lets_several_labels_in() {
    assert_eq!(render("{dc}.acme.test", "eu.west"), Ok("eu.west.acme.test".to_owned()));
    for value in ["eu..west", ".eu", "eu.", "eu.west1", "eu/west", "EU\n"] {
        assert!(render("{dc}.acme.test", value).is_err(), "{value:?}");
    }
}

#[test]
fn a_closed_set_is_a_set_of_known_hosts() {
    let pattern = HostPattern::parse("api.{site}", &fields()).expect("a pattern");
    let known: Vec<_> = pattern.origins().iter().map(ToString::to_string).collect();
    assert_eq!(known, ["api.a.test", "api.b.example"]);
    assert_eq!(render("api.{site}", "b.example"), Ok("api.b.example".to_owned()));
    assert!(render("api.{site}", "evil.test").is_err());
}

#[test]
fn a_whole_host_is_a_name_that_the_definition_lets_in() {
    for (pattern, value, result) in [
        ("{host}", "GitLab.acme.example", Some("gitlab.acme.example")),
        ("{host}", "10.0.0.1", None),
        ("{host}", "127.1", None),
        ("{host}", "a.example/x", None),
        ("{host}", "u@a.example", None),
        ("{host}:8443", "a.example", Some("a.example:8443")),
        ("{camera}", "10.0.0.1", Some("10.0.0.1")),
        ("{pinned}", "eu.docusign.net", Some("eu.docusign.net")),
        ("{pinned}", "evildocusign.net", None),
        ("{pinned}", "docusign.net.evil.test", None),
        ("{url}", "https://a.example/base", Some("a.example")),
        ("{url}", "https://a.example:8443", Some("a.example:8443")),
        ("{url}", "http://a.example", None),
        ("{url}", "https://u:p@a.example", None),
        ("{url}", "https://a.example\\@evil.test", None),
        ("{url}", "https://10.0.0.1/", None),
        ("{url}", "https://a.example:0443/", None),
        ("{url}", "a.example", None),
    ] {
        assert_eq!(render(pattern, value).ok().as_deref(), result, "{pattern} {value}");
    }
}

#[test]
fn no_error_repeats_the_value() {
    for pattern in
        ["{sub}.acme.test", "{dc}.acme.test", "{host}", "{url}", "{pinned}", "api.{site}"]
    {
        let error = render(pattern, "sentinel/../x").expect_err("hostile").to_string();
        assert!(!error.contains("sentinel"), "{error}");
    }
}

proptest! {
    #[test]
    fn hostile_values_never_leave_the_domain(value in "\\PC{0,30}|[a-z.:/@#?\\\\%-]{0,30}") {
        for (template, end) in [
            ("{sub}.acme.test", ".acme.test"),
            ("{loose}.acme.test", ".acme.test"),
            ("{dc}.acme.test", ".acme.test"),
            ("{sub}-dsn.acme.test", "-dsn.acme.test"),
            ("{pinned}", "docusign.net"),
        ] {
            let pattern = HostPattern::parse(template, &fields()).expect(template);
            if let Ok(origin) = pattern.render(|_| Some(&value)) {
                prop_assert!(origin.host.as_str().ends_with(end), "{} {:?}", template, value);
                prop_assert!(pattern.host.matches(&origin.host));
                prop_assert_eq!(origin.port, 443);
            }
        }
    }

    #[test]
    fn a_url_is_read_as_every_client_reads_it(value in "https://[a-z.:/@#?\\\\%\\[\\]-]{0,30}") {
        if let Ok(host) = render("{url}", &value) {
            let name = host.split(':').next().unwrap_or_default();
            let prefix = format!("https://{name}");
            prop_assert!(value.starts_with(&prefix), "{}", host);
            let rest = &value[prefix.len()..];
            prop_assert!(rest.is_empty() || rest.starts_with(['/', ':', '?', '#', '.']), "{}", rest);
        }
    }
}

fn of_request(name: &str, pattern: &str) -> Field {
    let pattern = Some(Pattern::new(pattern).expect(pattern));
    Field { origin: FieldOrigin::Request, pattern, ..field(name) }
}

#[test]
fn an_open_host_admits_what_its_patterns_do_and_is_no_accounts() {
    let fields = [
        of_request("service", "^([a-z0-9-]+|api\\.ecr)$"),
        of_request("area", "^[a-z]+-[a-z]+-[0-9]$"),
    ];
    let pattern = HostPattern::parse("{service}.{area}.cloud.test", &fields).expect("it reads");
    assert!(pattern.is_open());
    assert_eq!(pattern.render(|_| Some("x")), Err(Error::OfRequest("service".into())));
    for (host, admitted) in [
        ("sqs.eu-west-1.cloud.test", true),
        ("SQS.EU-WEST-1.cloud.test.", true),
        ("api.ecr.eu-west-1.cloud.test", true),
        ("front.elb.eu-west-1.cloud.test", false),
        ("eu-west-1.cloud.test", false),
        ("sqs.eu.cloud.test", false),
        ("sqs.eu-west-1.cloud.test.evil.test", false),
        ("sqs.eu-west-1.evilcloud.test", false),
        ("x_y.eu-west-1.cloud.test", false),
    ] {
        let Ok(host) = host.parse::<Host>() else { continue };
        assert_eq!(pattern.admits(&host, 443), admitted, "{host}");
        assert!(!pattern.admits(&host, 8443), "{host}");
    }
}

#[test]
fn what_the_request_says_is_bounded() {
    let bounded = [of_request("service", "^[a-z]+$")];
    let loose = [Field { pattern: None, ..of_request("service", "x") }];
    let unbounded = Err(Error::Unbounded("service".to_owned()));
    assert_eq!(HostPattern::parse("{service}", &bounded), unbounded);
    assert_eq!(HostPattern::parse("{service}.cloud.test", &loose), unbounded);
}

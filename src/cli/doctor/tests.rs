use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::SystemTime;

use super::setup::{
    config_findings, no_proxy_findings, node_version_finding, proxy_variable_findings,
};
use super::*;
use crate::host::Host;

fn gateway() -> Option<SocketAddr> {
    Some(SocketAddr::from(([127, 0, 0, 1], 8080)))
}

fn proxy() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 3128))
}

fn text(findings: &[Finding]) -> String {
    let mut out = Vec::new();
    print(&mut out, findings).expect("memory");
    String::from_utf8(out).expect("text")
}

fn seen(method: &str, host: &str, status: u16) -> Seen {
    Seen { method: method.to_owned(), host: host.to_owned(), status }
}

#[test]
fn a_client_that_goes_through_and_trusts_is_told_so() {
    let observed = Observed {
        connections: 1,
        intercepted_handshakes_ok: 1,
        requests: vec![seen("POST", "slack.com", 200)],
        tunnels_blind: vec!["pypi.org".to_owned(), "a.test".to_owned(), "pypi.org".to_owned()],
        ..Observed::default()
    };
    let findings = verdict(&observed, 0, "python", gateway());
    let text = text(&findings);
    assert!(text.contains("ok      python goes through the proxy and trusts the CA"), "{text}");
    assert!(text.contains("POST slack.com was answered with 200"), "{text}");
    assert!(text.contains("without a credential: a.test, pypi.org\n"), "{text}");
    assert_eq!(exit_code(&findings), 0);
}

#[test]
fn a_client_that_does_not_trust_is_given_its_own_setting() {
    for (program, setting) in [
        ("python", "REQUESTS_CA_BUNDLE"),
        ("node", "NODE_EXTRA_CA_CERTS"),
        ("git", "GIT_SSL_CAINFO"),
        ("wget", "WGETRC"),
        ("php", "curl.cainfo"),
        ("java", "run --java"),
        ("my-tool", "SSL_CERT_FILE"),
    ] {
        let failed = ("slack.com".to_owned(), "unknown_ca".to_owned());
        let observed = Observed {
            connections: 2,
            handshakes_failed: vec![failed.clone(), failed],
            ..Observed::default()
        };
        let findings = verdict(&observed, 1, program, gateway());
        let text = text(&findings);
        let said = "came to the proxy but does not trust the CA: it broke off at slack.com and 1 more (unknown_ca)";
        assert!(text.contains(said) && text.contains(setting), "{program}: {text}");
        assert!(text.contains("ended with exit code 1"), "{text}");
        assert_eq!(exit_code(&findings), 1);
    }
}

#[test]
fn a_client_that_never_came_is_shown_the_gateway() {
    for (program, why) in [
        ("node", "EnvHttpProxyAgent"),
        ("python", "trust_env=True"),
        ("java", "--java"),
        ("my-tool", "does not read proxy variables"),
    ] {
        let text = text(&verdict(&Observed::default(), 0, program, gateway()));
        assert!(text.contains("never came") && text.contains(why), "{program}: {text}");
        assert!(text.contains("http://127.0.0.1:8080/gateway/<app>/<path>"), "{text}");
    }
    let text = text(&verdict(&Observed::default(), 0, "node", None));
    assert!(text.contains("web.listen"), "{text}");
}

#[test]
fn a_missing_caller_and_an_idle_connection_are_told_apart() {
    let failed = Observed { connections: 1, auth_failures: 2, ..Observed::default() };
    assert!(text(&verdict(&failed, 0, "curl", None)).contains("without a known caller"));
    let idle = Observed { connections: 1, ..Observed::default() };
    assert!(text(&verdict(&idle, 0, "curl", None)).contains("asked nothing"));
}

#[test]
fn the_command_line_is_sound() {
    use clap::{Args as _, Subcommand as _};
    DoctorArgs::augment_args(clap::Command::new("doctor")).debug_assert();
    crate::cli::ca::CaCommand::augment_subcommands(clap::Command::new("ca")).debug_assert();
    crate::cli::env::EnvArgs::augment_args(clap::Command::new("env")).debug_assert();
}

#[test]
fn versions_and_paths_share_their_programs_advice() {
    for (command, name) in [
        ("/usr/bin/python3.11", "python"),
        ("node", "node"),
        ("C:\\node\\node.exe", "node"),
        ("pip3", "pip"),
        ("aria2c", "aria2c"),
    ] {
        assert_eq!(program_name(command), name);
    }
}

#[test]
fn proxy_variables_that_mislead_are_found_and_never_shown() {
    for (value, level, said) in [
        ("http://flow:hunter2@127.0.0.1:3128", Level::Good, "with a caller"),
        ("http://flow:hunter2@localhost:3128/", Level::Good, "with a caller"),
        ("http://127.0.0.1:3128", Level::Note, "without a caller"),
        ("http://hunter2@127.0.0.1:3128", Level::Problem, "not both"),
        ("http://hunter2:@127.0.0.1:3128", Level::Problem, "not both"),
        ("http://u:hunter2@proxy.corp.test:8080", Level::Problem, "proxy.corp.test:8080"),
        ("flow:hunter2@127.0.0.1:3128", Level::Problem, "no scheme"),
    ] {
        let parent = |name: &str| (name == "HTTPS_PROXY").then(|| value.to_owned());
        let findings = proxy_variable_findings(proxy(), &parent);
        assert_eq!(findings[0].level, level, "{value}");
        let text = text(&findings);
        assert!(text.contains(said) && !text.contains("hunter2"), "{text}");
    }
    let none = proxy_variable_findings(proxy(), &|_| None);
    assert_eq!((none.len(), none[0].level), (1, Level::Note));
}

#[test]
fn exemptions_that_catch_an_apps_host_are_problems() {
    let hosts: Vec<Host> =
        ["slack.com", "api.github.com"].map(|host| host.parse().expect(host)).into();
    for (list, problems) in [
        ("", 0),
        ("localhost,127.0.0.1,::1", 0),
        ("*", 1),
        (".com", 1),
        ("Slack.com", 1),
        ("github.com", 1),
        ("*.github.com:443", 1),
        ("hub.com,notslack.com", 0),
        ("slack.com, .github.com", 2),
    ] {
        let parent = |name: &str| (name == "NO_PROXY").then(|| list.to_owned());
        assert_eq!(no_proxy_findings(&hosts, &parent).len(), problems, "{list}");
    }
}

#[test]
fn only_new_enough_nodes_read_the_variables() {
    for (version, level) in [
        ("v20.20.2", Some(Level::Note)),
        ("v22.20.0", Some(Level::Note)),
        ("v22.21.0", Some(Level::Good)),
        ("v24.21.0", Some(Level::Good)),
        ("v26.0.0", Some(Level::Good)),
        ("", None),
        ("node", None),
    ] {
        assert_eq!(node_version_finding(version).map(|f| f.level), level, "{version}");
    }
}

#[test]
fn a_fresh_machine_has_no_problem_but_a_listener_that_is_down() {
    let dir = tempfile::tempdir().expect("a directory");
    let data_dir = dir.path().join("data");
    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let up = unused.local_addr().expect("bound");
    let setup = Setup {
        config_file: None,
        config_mistakes: &[],
        data_dir: &data_dir,
        listeners: &[("proxy", up)],
        proxy: up,
        hosts: &[],
        now: SystemTime::now(),
    };
    let empty: HashMap<&str, String> = HashMap::new();
    let parent = |name: &str| empty.get(name).cloned();
    let findings = check(&setup, &parent);
    assert_eq!(exit_code(&findings), 0, "{}", text(&findings));
    drop(unused);
    let findings = check(&setup, &parent);
    assert_eq!(exit_code(&findings), 1, "{}", text(&findings));
    assert!(!data_dir.exists(), "looking changes nothing");
}

#[test]
fn mistakes_in_the_configuration_are_all_shown() {
    let mistakes = ["a.toml:1: x: one".to_owned(), "a.toml:2: y: two".to_owned()];
    let setup = Setup {
        config_file: Some(Path::new("a.toml")),
        config_mistakes: &mistakes,
        data_dir: Path::new("/nowhere"),
        listeners: &[],
        proxy: proxy(),
        hosts: &[],
        now: SystemTime::now(),
    };
    let found: Vec<String> = config_findings(&setup).into_iter().map(|f| f.text).collect();
    assert_eq!(found, mistakes);
}

//! The decision as a table: who asks for what, and what comes out.

use std::sync::Arc;

use http::Method;
use proptest::prelude::*;

use super::cases::{self, Outcome};
use super::*;

fn host(text: &str) -> Host {
    text.parse().expect(text)
}

fn app(text: &str) -> AppId {
    text.parse().expect(text)
}

fn binding(account: &str, of: &str, hosts: &[&str]) -> Binding {
    Binding {
        account: account.parse().expect(account),
        id: format!("apn_{account}").parse().expect(account),
        app: app(of),
        hosts: hosts.iter().map(|name| (host(name), 443)).collect(),
        open: Vec::new(),
        paths: Vec::new(),
        default: false,
    }
}

fn rule(effect: Effect) -> Rule {
    Rule {
        name: Arc::from("a rule"),
        effect,
        app: None,
        account: None,
        host: None,
        methods: Vec::new(),
        paths: Vec::new(),
    }
}

fn paths(texts: &[&str]) -> Vec<PathPattern> {
    texts.iter().map(|text| text.parse().expect(text)).collect()
}

fn rule_for(effect: Effect, patterns: &[&str]) -> Rule {
    Rule { paths: paths(patterns), ..rule(effect) }
}

fn policy(bindings: Vec<Binding>, rules: Vec<Rule>) -> CallerPolicy {
    let caller = "flow".parse().expect("a name");
    let rules = rules.into();
    let lapsed = Vec::new();
    CallerPolicy { caller, mode: Mode::Enforce, bindings, lapsed, rules, kept: Kept::InFile }
}

fn slack(rules: Vec<Rule>) -> CallerPolicy {
    policy(vec![binding("team", "slack", &["slack.com"])], rules)
}

/// Asks for `METHOD host/path` of `app`.
fn ask(policy: &CallerPolicy, of: Option<&str>, request: &str, selector: Option<&str>) -> Decision {
    let (method, rest) = request.split_once(' ').expect("a method");
    let at = rest.find('/').unwrap_or(rest.len());
    let (name, path) = rest.split_at(at);
    let of = of.map(app);
    let question = Question {
        method: &method.parse().expect(method),
        host: &host(name),
        port: 443,
        path,
        app: of.as_ref(),
        selector,
    };
    match of {
        Some(_) => decide(policy, &question),
        None => decide_unmatched(policy, &question, selector.is_some()),
    }
}

fn allows(rules: &[Rule], path: &str) -> bool {
    let (method, host, app) = (Method::GET, host("slack.com"), app("slack"));
    let app = Some(&app);
    let question = Question { method: &method, host: &host, port: 443, path, app, selector: None };
    matches!(decide(&slack(rules.to_vec()), &question), Decision::Permit(_))
}

fn reason(decision: &Decision) -> &'static str {
    match decision {
        Decision::Deny(denial) => denial.reason(),
        Decision::Permit(permit) if permit.would_deny.is_some() => "would_deny",
        Decision::Permit(_) => "permit",
    }
}

#[test]
fn without_an_allowing_rule_the_answer_is_no_and_any_deny_wins() {
    let (allow, deny) = (rule(Effect::Allow), rule(Effect::Deny));
    let posts = Rule { methods: vec![Method::POST], ..allow.clone() };
    let other_app = Rule { app: Some(app("github")), ..allow.clone() };
    let other_account = Rule { account: Some("x".parse().expect("a name")), ..allow.clone() };
    let by_id = Rule { account: Some("apn_team".parse().expect("a name")), ..allow.clone() };
    let other_host = Rule { host: Some("*.slack.com".parse().expect("a host")), ..allow.clone() };
    for (rules, expected) in [
        (vec![], "no_rule"),
        (vec![allow.clone()], "permit"),
        (vec![deny.clone(), allow.clone()], "rule"),
        (vec![allow.clone(), deny], "rule"),
        (vec![posts], "no_rule"),
        (vec![other_app], "no_rule"),
        (vec![other_account], "no_rule"),
        (vec![by_id], "permit"),
        (vec![other_host], "no_rule"),
        (vec![rule_for(Effect::Allow, &["/api/**"])], "permit"),
        (vec![rule_for(Effect::Allow, &["/other"])], "no_rule"),
        (vec![allow.clone(), rule_for(Effect::Deny, &["/API"])], "rule"),
        (vec![allow, rule_for(Effect::Deny, &["/other"])], "permit"),
    ] {
        let decision = ask(&slack(rules.clone()), Some("slack"), "GET slack.com/api", None);
        assert_eq!(reason(&decision), expected, "{rules:?}");
    }
}

#[test]
fn the_account_is_chosen_by_name_then_host_then_path_then_default() {
    let general = binding("a", "zendesk", &["one.zendesk.com"]);
    let by_path =
        Binding { paths: paths(&["/x/**"]), ..binding("b", "zendesk", &["one.zendesk.com"]) };
    let deeper =
        Binding { paths: paths(&["/x/y/*"]), ..binding("c", "zendesk", &["one.zendesk.com"]) };
    let same_path = Binding { account: "d".parse().expect("a name"), ..by_path.clone() };
    let default = Binding { default: true, ..binding("e", "zendesk", &["one.zendesk.com"]) };
    let elsewhere = binding("f", "zendesk", &["two.zendesk.com"]);
    let all = |bindings: &[&Binding]| {
        policy(bindings.iter().map(|b| (*b).clone()).collect(), vec![rule(Effect::Allow)])
    };
    for (bindings, path, selector, expected) in [
        (vec![&general], "/", None, Ok("a")),
        (vec![&general, &elsewhere], "/", None, Ok("a")),
        (vec![&general, &by_path], "/x", None, Ok("b")),
        (vec![&general, &by_path], "/y", None, Ok("a")),
        (vec![&general, &by_path], "/x/%2e%2e/y", None, Ok("a")),
        (vec![&by_path, &deeper], "/x/y/z", None, Ok("c")),
        (vec![&by_path, &same_path], "/x", None, Err("ambiguous")),
        (vec![&by_path, &default], "/x", None, Ok("b")),
        (vec![&general, &default], "/", None, Ok("e")),
        (vec![&general, &default], "/", Some("a"), Ok("a")),
        (vec![&general, &default], "/", Some("apn_a"), Ok("a")),
        (vec![&general, &default], "/", Some("A"), Err("unknown_account")),
        (vec![&general, &default], "/", Some("zz"), Err("unknown_account")),
        (vec![&general, &elsewhere], "/", Some("f"), Err("other_host")),
        (vec![&elsewhere], "/", None, Err("other_host")),
        (vec![&by_path], "/y", None, Ok("b")),
        (vec![&by_path, &same_path], "/y", None, Err("ambiguous")),
        (vec![], "/", Some("a"), Err("not_bound")),
    ] {
        let policy = all(&bindings);
        let request = format!("GET one.zendesk.com{path}");
        let found = match ask(&policy, Some("zendesk"), &request, selector) {
            Decision::Permit(permit) => {
                let index = permit.binding.expect("a binding");
                Ok(policy.bindings[index].account.to_string())
            }
            Decision::Deny(denial) => Err(denial.reason()),
        };
        assert_eq!(found.as_deref().map_err(|e| *e), expected, "{bindings:?} {path} {selector:?}");
    }
}

#[test]
fn a_credential_stays_on_the_accounts_own_host_and_port() {
    let policy = slack(vec![rule(Effect::Allow)]);
    let of = app("slack");
    for (name, port, expected) in [
        ("slack.com", 443, "permit"),
        ("SLACK.com.", 443, "permit"),
        ("slack.com", 80, "other_host"),
        ("slack.com", 8443, "other_host"),
        ("evil.slack.com", 443, "other_host"),
        ("slack.com.evil.test", 443, "other_host"),
    ] {
        let (method, host) = (Method::GET, host(name));
        let question = Question {
            method: &method,
            host: &host,
            port,
            path: "/",
            app: Some(&of),
            selector: None,
        };
        assert_eq!(reason(&decide(&policy, &question)), expected, "{name}:{port}");
    }
}

#[test]
fn report_mode_softens_rules_and_never_bindings() {
    let reporting = |policy: CallerPolicy| CallerPolicy { mode: Mode::Report, ..policy };
    let unruled = reporting(slack(vec![]));
    let denied = reporting(slack(vec![rule(Effect::Deny)]));
    for (policy, of, request, selector, expected) in [
        (&unruled, "slack", "GET slack.com/", None, "would_deny"),
        (&denied, "slack", "GET slack.com/", None, "would_deny"),
        (&unruled, "github", "GET github.com/", None, "not_bound"),
        (&unruled, "slack", "GET slack.com/", Some("x"), "unknown_account"),
        (&unruled, "slack", "GET other.com/", None, "other_host"),
    ] {
        let decision = ask(policy, Some(of), request, selector);
        assert_eq!(reason(&decision), expected, "{request}");
        if let Decision::Permit(permit) = decision {
            assert_eq!((permit.binding, permit.rule), (Some(0), None));
        }
    }
}

#[test]
fn hosts_of_no_app_follow_the_default_unless_a_rule_names_them() {
    let named =
        |effect| Rule { host: Some("*.acme.test".parse().expect("a host")), ..rule(effect) };
    let of_app = |effect| Rule { app: Some(app("slack")), ..named(effect) };
    let gets = |effect| Rule { methods: vec![Method::GET], ..named(effect) };
    let unnamed_gets = |effect| Rule { methods: vec![Method::GET], ..rule(effect) };
    let (allow, deny) = (Effect::Allow, Effect::Deny);
    let tunnel = "CONNECT x.acme.test";
    for (rules, request, default, expected) in [
        (vec![], tunnel, true, "permit"),
        (vec![], tunnel, false, "no_rule"),
        (vec![named(allow)], tunnel, false, "permit"),
        (vec![named(allow)], "CONNECT acme.test", false, "no_rule"),
        (vec![rule(allow)], tunnel, false, "no_rule"),
        (vec![of_app(allow)], tunnel, false, "no_rule"),
        (vec![gets(allow)], tunnel, false, "no_rule"),
        (vec![gets(allow)], "GET x.acme.test/", false, "permit"),
        (vec![gets(allow)], "PUT x.acme.test/", false, "no_rule"),
        (vec![named(deny)], tunnel, true, "rule"),
        (vec![rule(deny)], tunnel, true, "rule"),
        (vec![of_app(deny)], tunnel, true, "permit"),
        (vec![gets(deny)], tunnel, true, "rule"),
        (vec![unnamed_gets(deny)], tunnel, true, "permit"),
        (vec![unnamed_gets(deny)], "GET x.acme.test/", true, "rule"),
        (vec![gets(deny)], "PUT x.acme.test/", true, "permit"),
    ] {
        let decision = ask(&policy(vec![], rules.clone()), None, request, default.then_some(""));
        assert_eq!(reason(&decision), expected, "{rules:?} {request}");
    }
}

#[test]
fn report_mode_does_not_open_hosts_that_the_config_closes() {
    let deny = Rule { host: Some("x.test".parse().expect("a host")), ..rule(Effect::Deny) };
    let policy = CallerPolicy { mode: Mode::Report, ..policy(vec![], vec![deny]) };
    assert_eq!(reason(&ask(&policy, None, "CONNECT y.test", None)), "no_rule");
    assert_eq!(reason(&ask(&policy, None, "CONNECT x.test", Some(""))), "would_deny");
}

/// Every spelling of `/admin/keys` that some server would take for it.
const SPELLINGS: [&str; 34] = [
    "/admin/keys",
    "/admin/keys/",
    "/ADMIN/Keys",
    "//admin/keys",
    "/admin//keys",
    "/admin/./keys",
    "/x/../admin/keys",
    "/admin/x/../keys",
    "/%61dmin/keys",
    "/%61%64min/keys",
    "/%2561dmin/keys",
    "/%252561dmin/keys",
    "/admin%2fkeys",
    "/admin%2Fkeys",
    "/admin%252fkeys",
    "/admin%5ckeys",
    "/admin\\keys",
    "/admin/%2e/keys",
    "/x/%2e%2e/admin/keys",
    "/x/.%2e/admin/keys",
    "/x/..%2fadmin/keys",
    "/x/..;/admin/keys",
    "/x/..;a=b/admin/keys",
    "/admin;a=b/keys",
    "/admin%3bx/keys",
    "/admin/keys;x",
    "/admin/keys%00",
    "/admin/keys%00.json",
    "/admin/keys%3fx=y",
    "/admin/keys%23x",
    "/admin/keys%20",
    "/admin%c0%afkeys",
    "/admin%ef%bc%8fkeys",
    "/x%2f%2e%2e%2fadmin%2fkeys",
];

#[test]
fn no_spelling_gets_around_a_deny_rule() {
    for pattern in ["/admin/keys", "/admin/**", "/*/keys", "/Admin/Keys", "/**/keys"] {
        let rules = [rule(Effect::Allow), rule_for(Effect::Deny, &[pattern])];
        for path in SPELLINGS {
            assert!(!allows(&rules, path), "{pattern} {path}");
        }
        assert!(allows(&rules, "/public"), "{pattern}");
    }
}

#[test]
fn no_odd_spelling_is_within_a_narrower_rule() {
    let narrow = [rule_for(Effect::Allow, &["/x/**", "/admin/**", "/public/*"])];
    for path in [
        "/x/../admin/keys",
        "/x/%2e%2e/other",
        "/x/..%2fother",
        "/x/..;/other",
        "/x/%252e%252e/other",
        "/x/..\\other",
        "/x//other",
        "/x/%00",
        "/x/%c0%ae%c0%ae/other",
        "/x/%ef%bc%8e%ef%bc%8e/other",
        "/x/é",
        "/x/%zz",
        "/x/%",
        "/x/%e",
        "/x/a;b",
        "/x/.",
        "/x/%0d%0aHost:%20evil",
        "x/y",
    ] {
        assert!(!allows(&narrow, path), "{path}");
        assert!(allows(&[rule_for(Effect::Allow, &["/**"])], path), "{path}");
    }
    assert!(allows(&narrow, "/x/%7Euser/caf%C3%A9/%20"));
    assert!(allows(&narrow, "/%61dmin/keys"));
}

#[test]
fn a_long_odd_path_is_taken_to_be_denied() {
    let rules = [rule(Effect::Allow), rule_for(Effect::Deny, &["/admin"])];
    let long = "/%2f".repeat(5_000);
    assert!(!allows(&rules, &long));
    assert!(allows(&rules, &"/a".repeat(5_000)));
}

/// A caller of the store is changed by commands, not in a file.
#[test]
fn a_denial_of_a_stored_caller_names_the_command_that_mends_it() {
    let stored = |policy: CallerPolicy| CallerPolicy { kept: Kept::InStore, ..policy };
    let bound = stored(slack(vec![]));
    let two = stored(policy(
        vec![binding("a", "slack", &["slack.com"]), binding("b", "slack", &["slack.com"])],
        vec![],
    ));
    for (policy, of, request, expected) in [
        (
            &bound,
            "slack",
            "GET slack.com/api/it's",
            "say it with all else that is allowed:\ncountersign callers bind flow ACCOUNT --allow \
             'GET /api/it'\\''s'",
        ),
        (
            &bound,
            "github",
            "GET api.github.com/user",
            "bind one (`countersign connect github` makes one):\ncountersign callers bind flow ACCOUNT",
        ),
        (&two, "slack", "GET slack.com/a", "default: \ncountersign callers bind flow a --default"),
    ] {
        let Decision::Deny(denial) = ask(policy, Some(of), request, None) else {
            panic!("{request} is not denied")
        };
        assert!(denial.to_string().ends_with(expected), "{denial}");
    }
}

/// What every denial says, to the letter: it is what an author of a workflow sees.
#[test]
fn a_denial_says_what_was_missing_and_how_to_mend_it() {
    let bound = slack(vec![]);
    let two = policy(
        vec![binding("a", "slack", &["slack.com"]), binding("b", "slack", &["slack.com"])],
        vec![],
    );
    let denying = slack(vec![rule(Effect::Deny)]);
    let narrow = slack(vec![rule_for(Effect::Allow, &["/a"])]);
    let request = "POST slack.com/api/chat.postMessage";
    for (policy, of, request, selector, expected) in [
        (
            &bound,
            Some("slack"),
            request,
            None,
            "caller \"flow\" has no rule that allows POST slack.com/api/chat.postMessage; add\n\
             [[callers.flow.rules]]\napp = \"slack\"\nmethods = [\"POST\"]\n\
             paths = [\"/api/chat.postMessage\"]",
        ),
        (
            &narrow,
            Some("slack"),
            "GET slack.com/a//b",
            None,
            "caller \"flow\" has no rule that allows GET slack.com/a//b (the path has an empty \
             segment (\"//\") and can be read in two ways, so rules with paths do not count); add\n\
             [[callers.flow.rules]]\napp = \"slack\"\nmethods = [\"GET\"]",
        ),
        (
            &bound,
            Some("github"),
            "GET api.github.com/user",
            None,
            "caller \"flow\" has no github account, and api.github.com belongs to github; add the \
             name of one to\n[callers.flow]\naccounts = [\"…\"]",
        ),
        (
            &bound,
            Some("slack"),
            request,
            Some("x\ny"),
            "caller \"flow\" has no account called \"x\\ny\" here; it has \"team\"",
        ),
        (
            &bound,
            Some("slack"),
            "GET evil.com/",
            None,
            "no account of caller \"flow\" is for evil.com; \"team\" is for slack.com:443",
        ),
        (
            &two,
            Some("slack"),
            request,
            None,
            "caller \"flow\" has \"a\" and \"b\" for this request; name one in the header \
             `countersign-account` or in the proxy user name (`flow~a`), or mark a default: add\n\
             [callers.flow]\nbindings = [{ account = \"a\", default = true }]",
        ),
        (
            &denying,
            Some("slack"),
            request,
            None,
            "rule a rule denies caller \"flow\" POST slack.com/api/chat.postMessage; narrow that \
             rule or remove it",
        ),
        (
            &bound,
            None,
            "CONNECT example.com",
            None,
            "caller \"flow\" has no rule that allows example.com, a host of no app; add\n\
             [[callers.flow.rules]]\nhost = \"example.com\"",
        ),
    ] {
        let Decision::Deny(denial) = ask(policy, of, request, selector) else {
            panic!("{request} is not denied")
        };
        assert_eq!(denial.to_string(), expected);
    }
}

#[test]
fn an_unbound_account_looks_like_one_that_does_not_exist() {
    let mine = slack(vec![rule(Effect::Allow)]);
    let text = |selector| match ask(&mine, Some("slack"), "GET slack.com/", Some(selector)) {
        Decision::Deny(denial) => {
            (denial.to_string().replace(selector, "X"), denial.choices().len())
        }
        Decision::Permit(_) => panic!("{selector} is permitted"),
    };
    assert_eq!(text("of-someone-else"), text("nonexistent"));
}

#[test]
fn an_explanation_names_each_rule_and_why_it_does_not_fit() {
    let other = Rule { methods: vec![Method::GET], ..rule(Effect::Allow) };
    let policy = slack(vec![other, rule_for(Effect::Deny, &["/x"]), rule(Effect::Allow)]);
    let (method, host, app) = (Method::POST, host("slack.com"), app("slack"));
    let question = Question {
        method: &method,
        host: &host,
        port: 443,
        path: "/api",
        app: Some(&app),
        selector: None,
    };
    let explanation = explain(&policy, &question, false);
    let fits: Vec<Fit> = explanation.rules.iter().map(|rule| rule.fit).collect();
    assert_eq!(fits, [Fit::OtherMethod, Fit::OtherPath, Fit::Fits]);
    assert!(explanation.to_string().ends_with("decision  allowed by a rule"), "{explanation}");
}

#[test]
fn cases_are_held_against_the_decision() {
    let text = "
[[case]]
caller = 'flow'
url = '/a'
expect = 'allow'
account = 'team'
rule = 'a rule'

[[case]]
caller = 'flow'
method = 'POST'
url = '/b'
expect = 'deny'
reason = 'no_rule'

[[case]]
caller = 'flow'
url = '/a'
expect = 'deny'
";
    let policy = slack(vec![rule_for(Effect::Allow, &["/a"])]);
    let cases = cases::parse(text).expect("cases");
    let failures = cases::run(&cases, |case| {
        let request = format!("{} slack.com{}", case.method, case.url);
        Ok(Outcome::of(&policy, &ask(&policy, Some("slack"), &request, None)))
    });
    let shown: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["line 16: flow GET /a: expected deny, got allow: allowed by a rule"]);
}

#[test]
fn a_file_that_is_no_cases_says_where() {
    for (text, part) in [
        ("[[case]]\ncaller = 'a'\nurl = 'x'\nexpect = 'maybe'", "line 4: unknown variant"),
        ("[[case]]\ncaller = 'a~b'\nurl = 'x'\nexpect = 'deny'", "line 1: \"a~b\" is not"),
        ("[[case]]\ncaler = 'a'", "line 2: unknown field"),
        ("[[case]]\ncaller = 'a'\nmethod = ' '\nurl = ''\nexpect = 'deny'", "no method"),
    ] {
        let error = cases::parse(text).expect_err(text).to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// Another writing of `path`, with tricks chosen by `choices`.
fn respelled(path: &str, choices: &[u8]) -> String {
    let mut out = String::new();
    for (at, c) in path.chars().enumerate() {
        match choices.get(at).copied().unwrap_or(0) % 8 {
            1 => out.push_str(&format!("%{:02x}", u32::from(c))),
            2 => out.push_str(&format!("%25{:02X}", u32::from(c))),
            3 => out.push(c.to_ascii_uppercase()),
            4 if c == '/' => out.push_str("//"),
            5 if c == '/' => out.push_str("/./"),
            6 if c == '/' => out.push_str("/x/../"),
            7 if c == '/' && at > 0 => out.push_str(";a=b/"),
            _ => out.push(c),
        }
    }
    match out.starts_with('/') {
        true => out,
        false => format!("/{out}"),
    }
}

/// What a thorough server would make of a path: decoded to the end, without dots.
fn thoroughly_read(path: &str) -> String {
    let mut text = path.to_owned();
    loop {
        let next = percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if next == text {
            break;
        }
        text = next;
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in text.split(['/', '\\']) {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    format!("/{}", kept.join("/"))
}

/// A rule of one of two apps or of any, for some methods and paths.
fn any_rule() -> impl Strategy<Value = Rule> {
    let effect = prop_oneof![2 => Just(Effect::Allow), 1 => Just(Effect::Deny)];
    let of = prop::option::of(prop_oneof![3 => Just("slack"), 1 => Just("github")]);
    let pattern = "(/([aAb]{1,2}|a\\*|\\*|\\*\\*|%61)){1,3}/?";
    let paths = prop::collection::vec(pattern, 0..3);
    (effect, of, any::<bool>(), paths).prop_map(|(effect, of, every_method, patterns)| Rule {
        app: of.map(app),
        methods: if every_method { vec![] } else { vec![Method::PUT] },
        paths: patterns.iter().map(|text| text.parse().expect("a pattern")).collect(),
        ..rule(effect)
    })
}

proptest! {
    /// An explanation asks every rule, so it says what a scan of them all would have decided.
    #[test]
    fn the_index_finds_the_rule_that_a_scan_of_all_rules_finds(
        rules in prop::collection::vec(any_rule(), 0..12),
        paths in prop::collection::vec("(/[aAb]{1,2}){0,4}(/|//|/%61)?", 8),
    ) {
        let named = |(at, rule): (usize, Rule)| Rule { name: at.to_string().into(), ..rule };
        let policy = slack(rules.into_iter().enumerate().map(named).collect());
        let (host, app) = (host("slack.com"), app("slack"));
        for path in &paths {
            let question = Question {
                method: &Method::GET,
                host: &host,
                port: 443,
                path,
                app: Some(&app),
                selector: None,
            };
            let explanation = explain(&policy, &question, false);
            let first = |effect| {
                let fits = |rule: &&Considered| rule.effect == effect && rule.fit == Fit::Fits;
                explanation.rules.iter().find(fits).map(|rule| rule.name.clone())
            };
            let (denied, allowed) = (first(Effect::Deny), first(Effect::Allow));
            let (reason, rule) = match &explanation.decision {
                Decision::Permit(permit) => ("permit", permit.rule.clone()),
                Decision::Deny(denial) => (denial.reason(), denial.rule().cloned()),
            };
            let expected = match (denied, allowed) {
                (Some(name), _) => ("rule", Some(name)),
                (None, Some(name)) => ("permit", Some(name)),
                (None, None) => ("no_rule", None),
            };
            prop_assert_eq!((reason, rule), expected, "{}", path);
        }
    }

    #[test]
    fn a_deny_is_never_loosened_by_spelling(
        path in "(/[a-c.]{0,2}[a-c]){1,4}",
        pattern in "(/([a-c]{1,2}|\\*|\\*\\*)){1,3}",
        choices in prop::collection::vec(0u8..8, 0..16),
    ) {
        let rules = [rule(Effect::Allow), rule_for(Effect::Deny, &[&pattern])];
        if !allows(&rules, &path) {
            let spelled = respelled(&path, &choices);
            prop_assert!(!allows(&rules, &spelled), "{pattern} {path} {spelled}");
        }
    }

    #[test]
    fn an_accepted_spelling_never_gets_more_than_what_it_means(
        path in "(/|%2f|%2e|%5c|\\.|[ab]|%61|%2561|;|\\\\|%00){1,10}",
        pattern in "(/([ab]{1,2}|a\\*|\\*)){1,3}(/\\*\\*)?",
    ) {
        let path = format!("/{path}");
        let rules = [rule_for(Effect::Allow, &[&pattern])];
        if allows(&rules, &path) {
            let meant = thoroughly_read(&path);
            let meant = if path.ends_with('/') { format!("{meant}/") } else { meant };
            prop_assert!(allows(&rules, &meant), "{pattern} {path} {meant}");
        }
    }

    #[test]
    fn no_path_and_no_pattern_makes_it_panic(path in "\\PC{0,30}", pattern in "/[a*/%2e.]{0,12}") {
        if let Ok(pattern) = pattern.parse::<PathPattern>() {
            let both = |effect| Rule { paths: vec![pattern.clone()], ..rule(effect) };
            allows(&[both(Effect::Allow), both(Effect::Deny)], &path);
        }
    }
}

/// Not asserted: run with `--release -- --ignored --nocapture` to see what a decision costs.
#[test]
#[ignore = "a measurement"]
fn what_a_decision_costs_at_a_hundred_rules() {
    let one = |at: usize| Rule {
        app: Some(app("slack")),
        methods: vec![Method::GET],
        ..rule_for(Effect::Allow, &[&format!("/api/method{at}.*")])
    };
    let policy = slack((0..100).map(one).collect());
    let (method, host, app) = (Method::GET, host("slack.com"), app("slack"));
    let question = Question {
        method: &method,
        host: &host,
        port: 443,
        path: "/api/method99.list",
        app: Some(&app),
        selector: None,
    };
    const ROUNDS: u32 = 1_000_000;
    let start = std::time::Instant::now();
    for _ in 0..ROUNDS {
        std::hint::black_box(decide(&policy, std::hint::black_box(&question)));
    }
    println!("{:?} per decision", start.elapsed() / ROUNDS);
}

#[test]
fn a_binding_that_lapsed_is_told_only_where_it_is_meant_and_lends_nothing() {
    let lapsed = |name: &str, app_id: &str, why| Lapsed {
        account: Some(name.parse().expect(name)),
        id: format!("apn_{name}").parse().expect(name),
        app: app(app_id),
        why,
    };
    let gone = lapsed("old", "slack", Lapse::NoLongerShared);
    let none = CallerPolicy { lapsed: vec![gone.clone()], ..policy(vec![], vec![]) };
    let beside = CallerPolicy { lapsed: vec![gone], ..slack(vec![rule(Effect::Allow)]) };
    let elsewhere = lapsed("old", "github", Lapse::Deleted);
    let elsewhere = CallerPolicy { lapsed: vec![elsewhere], ..policy(vec![], vec![]) };
    for (policy, selector, expected) in [
        (&none, None, "lapsed"),
        (&none, Some("old"), "lapsed"),
        (&none, Some("apn_old"), "lapsed"),
        (&none, Some("other"), "not_bound"),
        (&beside, None, "permit"),
        (&beside, Some("team"), "permit"),
        (&beside, Some("old"), "lapsed"),
        (&beside, Some("other"), "unknown_account"),
        (&elsewhere, None, "not_bound"),
    ] {
        let decision = ask(policy, Some("slack"), "GET slack.com/api", selector);
        assert_eq!(reason(&decision), expected, "{selector:?}");
    }
    for why in Lapse::ALL {
        let lapsed = vec![lapsed("payroll", "slack", why)];
        let policy = CallerPolicy { lapsed, ..policy(vec![], vec![]) };
        let Decision::Deny(denial) = ask(&policy, Some("slack"), "GET slack.com/", None) else {
            panic!("{why} lends nothing")
        };
        let text = denial.to_string();
        assert!(text.contains(&why.to_string()) && !text.contains("payroll"), "{text}");
    }
}

//! Every mistake with the words that it is reported in, and the documentation held against the
//! shape.

use super::*;

const SLACK: &str = r#"
id = "slack"
name = "Slack"
description = "Team chat"
categories = ["communication"]
docs_url = "https://docs.slack.dev"

[auth.bot_token]
kind = "bearer"
hosts = ["slack.com/api/"]
base_url = "https://slack.com/api"
attach = [{ header = "Authorization", value = "Bearer {bot_token}" }]
[[auth.bot_token.fields]]
name = "bot_token"
label = "Bot token"
secret = true
pattern = "^xox"
"#;

const DESK: &str = r#"
id = "desk"
name = "Desk"
description = "Tickets"
categories = ["support"]
docs_url = "https://desk.example"

[auth.key]
kind = "basic"
hosts = ["{subdomain}.desk.example"]
base_url = "https://{subdomain}.desk.example"
attach = [{ basic = { username = "{email}", password = "{api_key}" } }]
[[auth.key.fields]]
name = "subdomain"
label = "Subdomain"
secret = false
[[auth.key.fields]]
name = "email"
label = "E-mail"
secret = false
[[auth.key.fields]]
name = "api_key"
label = "Key"
secret = true
"#;

fn catalog() -> Arc<Catalog> {
    let files = [("slack.toml", SLACK), ("desk.toml", DESK)];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    Arc::new(Catalog::build(files).expect("apps"))
}

fn finish(text: &str) -> Result<Config, Vec<String>> {
    finish_with(text, &[])
}

fn finish_with(text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let env: Vec<_> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let draft = Draft::parse(text, Some(std::path::Path::new("/x/c.toml")), &env);
    draft.finish(catalog()).map_err(|found| found.iter().map(ToString::to_string).collect())
}

const ACCOUNT: &str = "
[accounts.team]
app = 'slack'
secrets = { bot_token = { env = 'T' } }
";

/// A config file that has an account and a caller, with more in the caller.
fn caller(more: &str) -> String {
    format!("{ACCOUNT}[callers.flow]\ntoken = {{ env = 'F' }}\naccounts = ['team']\n{more}")
}

#[test]
fn every_mistake_has_its_line_and_says_what_to_write() {
    for (text, expected) in [
        ("x", "/x/c.toml:1:"),
        ("[proxi]", "/x/c.toml:1: proxi: unknown key; did you mean \"proxy\"?"),
        ("[proxy]\nlissen = []", ":2: proxy.lissen: unknown key; did you mean \"listen\"?"),
        ("[proxy]\nlisten = 1", ":2: proxy.listen: expected a list, found a whole number"),
        ("[proxy]\nlisten = ['x']", ":2: proxy.listen[0]: \"x\" is no address to listen on"),
        ("[proxy]\nidle_timeout = '5'", ":2: proxy.idle_timeout: \"5\" is no duration"),
        ("[proxy]\nidle_timeout = '0s'", "must be more than 0"),
        ("[proxy]\nidle_timeout = 5", "expected a text in quotes, found a whole number"),
        ("[proxy]\nmax_header_bytes = 5", "must be from 8KiB to 16MiB"),
        ("[proxy]\nmax_connections = 0", "must be 1 or more"),
        ("[proxy]\nunmatched = 'x'", "neither \"tunnel\" nor \"deny\""),
        ("[proxy]\ntls_listen = ['127.0.0.1:1']", "`tls_listen` needs a certificate"),
        ("[proxy.tls]\nkey = 'k'", "`certificate` and `key` are both needed"),
        (
            "[proxy.tls]\ncertificate = 'c'\nkey = 'k'\nclient_crl = 'r'",
            "`client_crl` needs `client_ca`",
        ),
        ("[proxy]\nlisten = []\n[web]\nlisten = 'off'", "nothing listens"),
        ("[proxy]\nlisten = ['127.0.0.1:8080']", "[proxy] listens on 127.0.0.1:8080 already"),
        ("[web.tls]\nkey = 'k'", "use `certificate` and `key`, or `local_ca = true`"),
        ("[web.tls]\nlocal_ca = true\ncertificate = 'c'\nkey = 'k'", "use `certificate` and `key`"),
        ("[web]\nhosts = ['a/b']", "the host has a character"),
        ("[ca]\nleaf_lifetime = '400d'\nca_lifetime = '500d'", "at most 397d"),
        ("[ca]\nca_lifetime = '1d'", "longer than `ca_lifetime`"),
        ("[upstream]\nallow = ['x']", "no range of addresses"),
        ("[upstream]\nbind = 'x'", "no IP address"),
        ("[upstream]\nhttp2 = 'yes'", "expected true or false, found a text"),
        ("[upstream.resolve]\n'a.test' = 'b.test'", "no IP address with a port"),
        ("[upstream.resolve]\n'a:b:c' = '127.0.0.1:1'", ":2: upstream.resolve.\"a:b:c\": "),
        ("[upstream.proxy]\nresolve = 'local'", "`url` is missing"),
        ("[upstream.proxy]\nurl = 'http://u:p@h'", "go into `credentials`"),
        ("[log]\nformat = 'x'", "none of \"auto\", \"text\" and \"json\""),
        ("[log]\nfilter = 'a=b=c'", "no filter"),
        ("[audit]\nstrict = true\nenabled = false", "`strict` needs"),
        ("[audit]\nmax_file_bytes = '1KiB'", "must be 64KiB or more, or 0"),
        ("[accounts.a]", ":1: accounts.a: `app` is missing"),
        ("[accounts.apn_a]\napp = 'slack'", "may not start with \"apn_\""),
        ("[accounts.a]\napp = 'slak'", ":2: accounts.a.app: there is no app \"slak\"; did you"),
        ("[accounts.a]\napp = 'slack'\nauth = 'x'", "there is \"bot_token\""),
        ("[accounts.a]\napp = 'slack'", "secret \"bot_token\" is missing: add secrets = { bot_"),
        ("[accounts.a]\napp = 'desk'", "\"subdomain\" is missing: add fields = { subdomain"),
        ("[accounts.a]\napp = 'slack'\nfields = { tokn = 'x' }", "has no such field"),
        ("[accounts.a]\napp = 'slack'\nfields = { bot_token = 'xoxb' }", "put it under `secrets`"),
        (
            "[accounts.a]\napp = 'slack'\nsecrets.bot_token = { value = 'hunter2' }",
            "\"bot_token\" must match ^xox",
        ),
        ("[accounts.a]\napp = 'slack'\nsecrets.bot_token = 'x'", "a secret is named, not written"),
        ("[accounts.a]\napp = 'slack'\nsecrets.bot_token = {}", "a secret is named, not written"),
        (
            "[accounts.a]\napp = 'slack'\nsecrets.bot_token = { env = 'A', file = 'b' }",
            "a secret is named, not written",
        ),
        (
            "[accounts.a]\napp = 'slack'\nsecrets.bot_token = { env = 'A', timeout = '1s' }",
            "`timeout` goes with `exec` only",
        ),
        (
            "[accounts.a]\napp = 'slack'\nsecrets.bot_token = { exec = [] }",
            "`exec` is a command and its arguments",
        ),
        (
            "[accounts.a]\napp = 'desk'\nfields = { subdomain = 'a.evil', email = 'e' }\n\
             secrets.api_key = { env = 'K' }",
            "accounts.a",
        ),
        (
            "[accounts.a]\napp = 'desk'\nfields = { email = 'e' }\n\
             secrets = { api_key = { env = 'K' }, subdomain = { env = 'S' } }",
            "the host depends on it",
        ),
        ("[callers.'a~b']", "is not a valid caller name"),
        ("[callers.a]\ntoken = 'x'", ":2: callers.a.token: a secret is named, not written"),
        ("[callers.a]\ntoken_sha256 = 'x'", "64 hexadecimal digits"),
        ("[callers.a]\naccounts = ['tem']", "there is no account \"tem\"; there is nothing"),
        ("[callers.a]\ngroups = ['x']", "there is no group \"x\""),
        ("[callers.a]\nbindings = [{}]", "callers.a.bindings[0]: `account` is missing"),
        ("[callers.a]\nmode = 'x'", "neither \"enforce\" nor \"report\""),
        ("[callers.a]\nrate = { per_second = 0 }", "must be a whole number from 1 on"),
        ("[callers.a]\nrate = { burst = 1 }", "`per_second` is missing"),
        ("[callers.a]\nexpires_at = 2027-01-01", "no date and time with an offset"),
        ("[callers.a]\nmax_concurrent = 0", "must be a whole number from 1 on"),
        (
            "[callers.a]\ntoken = { value = 'x' }\n[callers.b]\ntoken = { value = 'x' }",
            ":3: callers.b: caller \"a\" has the same token",
        ),
        (
            "[callers.a]\ncertificate = 'x'\n[callers.b]\ncertificate = 'x'",
            "caller \"a\" has the same certificate name",
        ),
        ("[[callers.a.rules]]\napp = 'slack'", ":2: callers.a.rules[0].app: no account of slack"),
        ("[[callers.a.rules]]\neffect = 'x'", "neither \"allow\" nor \"deny\""),
        ("[[callers.a.rules]]\nmethods = ['get']", "write \"GET\""),
        ("[[callers.a.rules]]\nmethods = []", "an empty list would mean everything"),
        ("[[callers.a.rules]]\npaths = ['a']", "\"a\": a path starts with \"/\""),
        ("[[callers.a.rules]]\nhost = '*'", "\"*\" may only stand first"),
        ("[[groups.g.rules]]\napp = 'slack'", ":2: groups.g.rules[0].app: no account of slack"),
    ] {
        let found = finish(text).map(|_| ()).expect_err(text).join("\n");
        assert!(found.contains(expected), "{text}\n  gave {found}");
        assert!(!found.contains("hunter2"), "{found}");
    }
}

#[test]
fn mistakes_in_a_caller_that_has_an_account() {
    let two = "[accounts.other]\napp = 'slack'\nsecrets = { bot_token = { env = 'U' } }\n";
    for (more, expected) in [
        ("rules = [{ account = 'other' }]", "account \"other\" is not bound here"),
        (
            "bindings = [{ account = 'team', default = true }, { account = 'other', default = true }]",
            "\"team\" and \"other\" are both the default for slack",
        ),
        ("bindings = [{ account = 'team', paths = ['x'] }]", "a path starts with"),
        ("bindings = [{ account = 'tean' }]", "did you mean \"team\"?"),
    ] {
        let text = format!("{two}{}", caller(more));
        let found = finish(&text).map(|_| ()).expect_err(more).join("\n");
        assert!(found.contains(expected), "{more}\n  gave {found}");
    }
}

#[test]
fn all_mistakes_come_at_once_in_the_order_of_the_file() {
    let text = "[web]\nhosts = ['a/b', 'c', 'd/e']\n[proxy]\nlisten = ['x']\nidle = 1\n";
    let found = finish(text).map(|_| ()).expect_err(text);
    let places: Vec<&str> = found.iter().filter_map(|m| m.split(": ").nth(1)).collect();
    assert_eq!(places, ["web.hosts[0]", "web.hosts[2]", "proxy.listen[0]", "proxy.idle"]);
}

#[test]
fn variables_stand_in_for_keys_and_are_named_in_mistakes() {
    let set = [
        ("COUNTERSIGN_PROXY__LISTEN", "127.0.0.1:1, 127.0.0.1:2"),
        ("COUNTERSIGN_AUDIT__ENABLED", "false"),
        ("COUNTERSIGN_CA__LEAF_CACHE", "7"),
        ("COUNTERSIGN_DATA_DIR", "/data"),
        ("COUNTERSIGN_MASTER_KEY", "is not ours"),
    ];
    let config = finish_with("[proxy]\nlisten = ['127.0.0.1:9']", &set).expect("a config");
    assert_eq!(config.proxy.listen.len(), 2);
    assert_eq!((config.audit.enabled, config.ca.leaf_cache), (false, 7));
    assert_eq!(config.data_dir, PathBuf::from("/data"));
    for (name, value, expected) in [
        ("COUNTERSIGN_PROXY__LISTEN", "x", "environment: COUNTERSIGN_PROXY__LISTEN: \"x\" is no"),
        ("COUNTERSIGN_PROXY__LISSEN", "x", "COUNTERSIGN_PROXY__LISSEN: unknown key; did you mean"),
        ("COUNTERSIGN_AUDIT__ENABLED", "no", "COUNTERSIGN_AUDIT__ENABLED: expected true or false"),
        ("COUNTERSIGN_DATA_DIR__X", "x", "\"data_dir\" is no section"),
    ] {
        let text = "data_dir = '/d'";
        let found = finish_with(text, &[(name, value)]).map(|_| ()).expect_err(name).join("\n");
        assert!(found.contains(expected), "{name}: {found}");
    }
}

#[test]
fn a_caller_gets_its_groups_accounts_and_rules_beside_its_own() {
    let text = caller(
        "groups = ['g']\nrules = [{ paths = ['/api/a'] }]\n\
         [groups.g]\naccounts = ['team', 'desk']\n\
         bindings = [{ account = 'desk', default = true }]\nrules = [{ app = 'slack' }]\n\
         [accounts.desk]\napp = 'desk'\nfields = { subdomain = 'Acme', email = 'e' }\n\
         secrets = { api_key = { file = 'k' } }\n",
    );
    let config = finish(&text).expect("a config");
    let policy = &config.callers[0].policy;
    let names: Vec<&str> = policy.bindings.iter().map(|b| b.account.as_str()).collect();
    assert_eq!(names, ["team", "desk"]);
    assert_eq!(policy.bindings[1].hosts, [("acme.desk.example".parse().expect("a host"), 443)]);
    assert!(policy.bindings[1].default);
    let rules: Vec<&str> = policy.rules.iter().map(|rule| &*rule.name).collect();
    assert_eq!(rules, ["callers.flow.rules[0]", "groups.g.rules[0]"]);
    let desk = config.accounts.iter().find(|a| a.name.as_str() == "desk").expect("the account");
    let place = &desk.secrets["api_key"].place;
    assert!(matches!(place, Place::File(file) if file == std::path::Path::new("/x/k")));
}

#[test]
fn the_data_directory_follows_the_person_or_the_system() {
    let home = [("HOME".to_owned(), "/home/p".to_owned())];
    let xdg = [("XDG_DATA_HOME".to_owned(), "/xdg".to_owned())];
    let at = |file: &str, env: &[(String, String)]| {
        Draft::parse("", Some(std::path::Path::new(file)), env).data_dir().display().to_string()
    };
    assert_eq!(at("/home/p/c.toml", &home), "/home/p/.local/share/countersign");
    assert_eq!(at("c.toml", &xdg), "/xdg/countersign");
    assert_eq!(at("/etc/countersign/c.toml", &home), "/var/lib/countersign");
    assert_eq!(at("c.toml", &[]), "/var/lib/countersign");
}

#[test]
fn what_works_and_may_not_be_meant_is_warned_about() {
    let text = format!(
        "[proxy]\nlisten = ['0.0.0.0:3128']\n{}[callers.none]\n[callers.c]\ncertificate = 'x'\n",
        caller("").replace("env = 'F'", "value = 'hunter2'")
    );
    let config = finish(&text).expect("a config");
    let said =
        |mode| -> Vec<String> { config.warnings(mode).iter().map(ToString::to_string).collect() };
    let all = said(Some(0o100_644)).join("\n");
    for part in [
        "callers.flow.token: warning: this secret stands",
        "mode 644",
        "0.0.0.0:3128",
        "callers.none: warning: no token",
        "set proxy.tls.client_ca",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(!all.contains("hunter2"));
    assert_eq!(said(Some(0o600)).len(), said(None).len());
    assert_eq!(said(Some(0o644)).len(), said(None).len() + 1);
}

const DOCUMENTED: &str = include_str!("../../config/countersign.toml");

#[test]
fn the_documented_values_are_the_defaults() {
    let documented = finish(DOCUMENTED).expect("config/countersign.toml");
    let default = finish("").expect("the defaults");
    let shown = |c: &Config| {
        let Config { proxy, web, admin, ca, log, audit, .. } = c;
        format!("{proxy:#?}{web:#?}{admin:#?}{ca:#?}{log:#?}{audit:#?}")
    };
    assert_eq!(shown(&documented), shown(&default));
    let upstream = |c: &Config| {
        let u = &c.upstream;
        let times = [u.connect_timeout, u.tls_timeout, u.first_byte_timeout, u.idle_timeout];
        let counts = (u.max_idle_per_host, u.max_connections_per_host, u.http2);
        let lists = (u.resolve.clone(), u.roots.clone(), u.allow.clone(), u.bind);
        (times, u.keep_alive, counts, lists, u.proxy.is_none())
    };
    assert_eq!(upstream(&documented), upstream(&default));
}

#[test]
fn every_key_is_documented_and_every_example_is_valid() {
    let example: Vec<&str> = DOCUMENTED.lines().map(uncommented).collect();
    let example = example.join("\n");
    // Two ways to say the same may not both be set.
    let draft = Draft::parse(&example, Some(std::path::Path::new("/x/c.toml")), &[]);
    let config = draft.config(catalog());
    let known = draft.known();
    let found = draft.finish(catalog()).map(|_| ()).err().unwrap_or_default();
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!((config.accounts.len(), config.callers.len()), (1, 1));
    let table: toml::Table = example.parse().expect("TOML");
    for key in known.iter().filter(|key| !key.contains(['[', '"'])) {
        let root = toml::Value::Table(table.clone());
        let there = key.split('.').try_fold(&root, |at, key| at.get(key));
        let of_secret = ["env", "file", "exec", "value", "timeout", "ttl", "failure_ttl"];
        let leaf = key.rsplit('.').next().unwrap_or_default();
        let ref_key = of_secret.contains(&leaf) && !key.starts_with("audit");
        assert!(there.is_some() || ref_key, "{key} is not in config/countersign.toml");
    }
}

/// `#key = …` is an example, `# text` is prose.
fn uncommented(line: &str) -> &str {
    match line.strip_prefix('#') {
        Some(example) if !example.starts_with(' ') => example,
        _ => line,
    }
}

//! Who may use what: how callers prove themselves, which account they get, what they are refused,
//! and that an answer says how to mend it. DESIGN.md §3 rules 1–4 and 8, §4, §5.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::client::{
    self, Answer, basic, connect, dial, exchange, fetch, flow, get, get_plain, inside, inside_as,
    read_answer, read_head, status_of, tls,
};
use crate::origin::{self, Origin, scripted};
use crate::pki::{self, Ca, Identity};
use crate::site::{API, BEARER, CALLER, KEY, OTHER_TOKEN, Setup, Site, TOKEN, caller};

/// Answers with the credential's last word, which is not a secret of the house: accounts here have
/// keys that say whose they are.
async fn telling_origin(ca: &Ca, hosts: &[&str]) -> Origin {
    scripted(ca.server(hosts), Vec::new()).await
}

const WORK: &str = "key-of-the-work-account-0123";
const HOME: &str = "key-of-the-home-account-0123";

/// Two accounts of one app; `bindings` is how the caller holds them.
async fn two_accounts(bindings: &str) -> (Site, Origin) {
    let ca = Ca::new();
    let origin = telling_origin(&ca, &[API]).await;
    let account = |name: &str| {
        format!(
            "[accounts.{name}]\napp = \"acme\"\nsecrets = {{ api_key = {{ file = \"{name}.key\" }} }}"
        )
    };
    let site = Setup::bare(&ca)
        .app("acme", &[API], BEARER)
        .resolve(&format!("{API}:443"), origin.address)
        .file("work.key", WORK)
        .file("home.key", HOME)
        .secret(WORK)
        .secret(HOME)
        .rest(&account("work"))
        .rest(&account("home"))
        .rest(&account("foreign").replace("foreign.key", "home.key"))
        .rest(&caller(CALLER, TOKEN, &format!("{bindings}\nrules = [{{}}]")))
        .start()
        .await;
    (site, origin)
}

/// The credential with which the last request arrived; it must be alone.
fn credential(origin: &Origin) -> String {
    let heads = origin.seen.heads();
    let head = heads.last().expect("a request arrived").to_lowercase();
    assert_eq!(head.matches("authorization").count(), 1, "{head}");
    assert!(!head.contains("countersign-account"), "{head}");
    let heads = heads.last().unwrap().clone();
    let line = heads.lines().find(|l| l.to_lowercase().starts_with("authorization:")).unwrap();
    line.split_once(": ").unwrap().1.trim_start_matches("Bearer ").to_owned()
}

fn named(name: &str) -> String {
    format!("GET /named HTTP/1.1\r\nHost: {API}\r\nCountersign-Account: {name}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_chosen_by_user_name_or_header() {
    let (site, origin) = two_accounts("accounts = [\"work\", \"home\"]").await;
    for (nickname, key) in [("work", WORK), ("home", HOME)] {
        let credentials = basic(&format!("{CALLER}~{nickname}"), TOKEN);
        let mut stream = inside_as(&site, API, &credentials, "http/1.1").await;
        let asked = format!("GET / HTTP/1.1\r\nHost: {API}\r\n\r\n");
        assert_eq!(exchange(&mut stream, &asked).await.status, 200);
        assert_eq!(credential(&origin), key, "by user name");
        assert_eq!(get_plain(&site, &format!("http://{API}/"), &credentials).await.status, 200);
        assert_eq!(credential(&origin), key, "by user name, plain");
        assert_eq!(fetch(&site, &named(nickname)).await.status, 200);
        assert_eq!(credential(&origin), key, "by header");
        let bearer = format!("Bearer {TOKEN}~{nickname}");
        assert_eq!(get_plain(&site, &format!("http://{API}/"), &bearer).await.status, 200);
        assert_eq!(credential(&origin), key, "by bearer");
    }
    // The header says it for one request, whatever the tunnel was opened with.
    let mut stream =
        inside_as(&site, API, &basic(&format!("{CALLER}~work"), TOKEN), "http/1.1").await;
    assert_eq!(exchange(&mut stream, &named("home")).await.status, 200);
    assert_eq!(credential(&origin), HOME);
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_candidates_and_no_default_are_a_409_with_the_choices() {
    let (site, origin) = two_accounts("accounts = [\"work\", \"home\"]").await;
    for answer in
        [get(&site, "/").await, get_plain(&site, &format!("http://{API}/"), &flow()).await]
    {
        assert_eq!((answer.status, answer.problem().as_str()), (409, "ambiguous"));
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(problem["choices"], serde_json::json!(["work", "home"]));
        assert!(problem["detail"].as_str().unwrap().contains("countersign-account"));
        assert_eq!(answer.field("x-countersign-source"), Some("proxy"));
        assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    }
    // One that exists and is not bound, and one that does not exist, are told apart by nobody.
    let told = async |name: &str| {
        let answer = fetch(&site, &named(name)).await;
        assert_eq!(answer.status, 403);
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        problem["detail"].as_str().unwrap().replace(name, "?")
    };
    assert_eq!(told("foreign").await, told("nowhere").await);
    assert!(origin.seen.heads().is_empty());
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_rule_chooses_before_the_default() {
    let bindings = "bindings = [{ account = \"work\", default = true }, { account = \"home\", paths = [\"/home/**\"] }]";
    let (site, origin) = two_accounts(bindings).await;
    for (path, key) in [("/", WORK), ("/home/x", HOME), ("/homeless", WORK)] {
        assert_eq!(get(&site, path).await.status, 200, "{path}");
        assert_eq!(credential(&origin), key, "{path}");
    }
    site.close().await;
}

/// §5: the token of `acme` never goes to `evil`.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_credential_goes_to_its_own_host_only() {
    let ca = Ca::new();
    let (good, evil) = ("one.desk.test", "evil.desk.test");
    let origin = telling_origin(&ca, &[good, evil]).await;
    let app = format!(
        "{BEARER}\n[[auth.key.fields]]\nname = \"subdomain\"\nlabel = \"Subdomain\"\nsecret = false"
    );
    let site = Setup::bare(&ca)
        .app("desk", &["{subdomain}.desk.test"], &app)
        .resolve(&format!("{good}:443"), origin.address)
        .resolve(&format!("{evil}:443"), origin.address)
        .rest("[accounts.desk]\napp = \"desk\"\nfields = { subdomain = \"one\" }\nsecrets = { api_key = { file = \"key\" } }")
        .rest(&caller(CALLER, TOKEN, "accounts = [\"desk\"]\nrules = [{}]"))
        .start()
        .await;
    let ask = async |host: &str| {
        let mut stream = inside_as(&site, host, &flow(), "http/1.1").await;
        exchange(&mut stream, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
    };
    assert_eq!(ask(good).await.status, 200);
    assert_eq!(credential(&origin), KEY);
    let answer = ask(evil).await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "other_host"));
    assert!(answer.text().contains(good), "{}", answer.text());
    assert_eq!(origin.seen.heads().len(), 1);
    site.close().await;
}

/// Rule 4: the body says which rule was missing and how to mend it.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_rule_allows_is_refused_with_the_remedy() {
    let (ca, beta) = (Ca::new(), "api.beta.test");
    let origin = telling_origin(&ca, &[API, beta]).await;
    let rules = "accounts = [\"acme\"]\nrules = [{ app = \"acme\", methods = [\"GET\"], paths = [\"/read/**\"] }, { effect = \"deny\", paths = [\"/read/secret\"] }]";
    let site = Setup::bare(&ca)
        .app("acme", &[API], BEARER)
        .app("beta", &[beta], BEARER)
        .account("acme", "acme")
        .account("beta", "beta")
        .resolve(&format!("{API}:443"), origin.address)
        .resolve(&format!("{beta}:443"), origin.address)
        .rest(&caller(CALLER, TOKEN, rules))
        .start()
        .await;
    assert_eq!(get(&site, "/read/a").await.status, 200);
    let refused = [
        ("/read/secret", "rule"),
        ("/read/%73ecret", "rule"),
        ("/read/./secret", "rule"),
        ("/read/x/../secret", "rule"),
        ("/other", "no_rule"),
        ("/read/../other", "no_rule"),
        ("/read/%2e%2e/other", "no_rule"),
    ];
    for (path, reason) in refused {
        let answer = get(&site, path).await;
        assert_eq!((answer.status, answer.problem().as_str()), (403, reason), "{path}");
        assert!(answer.text().contains("callers.flow") || reason == "rule", "{}", answer.text());
    }
    let answer = fetch(&site, &client::post("/read/a", &[], "")).await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "no_rule"));
    let mut stream = inside_as(&site, beta, &flow(), "http/1.1").await;
    let answer = exchange(&mut stream, &format!("GET / HTTP/1.1\r\nHost: {beta}\r\n\r\n")).await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "not_bound"));
    assert_eq!(origin.seen.heads().len(), 1);
    assert!(site.metric("countersign_denials_total", &["no_rule", "acme"]).await >= 4.0);
    site.close().await;
}

/// §9: let through, and counted as what would have been refused.
#[tokio::test(flavor = "multi_thread")]
async fn report_mode_lets_through_and_counts() {
    let ca = Ca::new();
    let origin = telling_origin(&ca, &[API]).await;
    let lines = "accounts = [\"acme\"]\nmode = \"report\"\nrules = [{ paths = [\"/allowed\"] }]";
    let site = Setup::bare(&ca)
        .app("acme", &[API], BEARER)
        .account("acme", "acme")
        .resolve(&format!("{API}:443"), origin.address)
        .rest(&caller(CALLER, TOKEN, lines))
        .start()
        .await;
    assert_eq!(get(&site, "/allowed").await.status, 200);
    assert_eq!(site.metric("countersign_would_deny_total", &[]).await, 0.0);
    assert_eq!(get(&site, "/other").await.status, 200);
    assert_eq!(credential(&origin), KEY);
    assert_eq!(site.metric("countersign_would_deny_total", &["no_rule", "acme"]).await, 1.0);
    let audit = || std::fs::read_to_string(site.path("data/audit.jsonl")).unwrap();
    site.until("it is recorded", || audit().contains("would_deny")).await;
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_and_a_number_at_once_are_limits_of_one_caller() {
    let ca = Ca::new();
    let origin = origin::start(ca.server(&[API]), |mut stream, seen| async move {
        while let Some(head) = seen.request(&mut stream).await {
            if head.contains(" /slow ") {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            if stream.write_all(&origin::ok("done")).await.is_err() {
                return;
            }
        }
    })
    .await;
    let site = Setup::bare(&ca)
        .app("acme", &[API], BEARER)
        .account("acme", "acme")
        .resolve(&format!("{API}:443"), origin.address)
        .rest(&caller(
            CALLER,
            TOKEN,
            "accounts = [\"acme\"]\nrules = [{}]\nrate = { per_second = 1, burst = 3 }",
        ))
        .rest(&caller(
            "other",
            OTHER_TOKEN,
            "accounts = [\"acme\"]\nrules = [{}]\nmax_concurrent = 2",
        ))
        .start()
        .await;
    let url = format!("http://{API}/fast");
    let mut limited = None;
    for _ in 0..6 {
        let answer = get_plain(&site, &url, &flow()).await;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
        assert_eq!(answer.status, 200);
    }
    let limited = limited.expect("six at once are more than three and one a second");
    assert_eq!(limited.problem(), "rate_limited");
    let wait: u64 = limited.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait));
    assert_eq!(get_plain(&site, &url, &basic("other", OTHER_TOKEN)).await.status, 200);
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(get_plain(&site, &url, &flow()).await.status, 200);

    let slow = format!("http://{API}/slow");
    let other = basic("other", OTHER_TOKEN);
    let four = (0..4).map(|_| get_plain(&site, &slow, &other));
    let four = futures_util::future::join_all(four).await;
    let of = |status: u16| four.iter().filter(|answer| answer.status == status).count();
    assert_eq!((of(200), of(429)), (2, 2), "{four:?}");
    assert_eq!(get_plain(&site, &slow, &other).await.status, 200, "places come back");
    site.close().await;
}

/// T11: all kinds of wrong look the same, and are limited.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_proofs_are_all_the_same_407() {
    let ca = Ca::new();
    let origin = telling_origin(&ca, &[API]).await;
    let past = format!("expires_at = 2020-01-01T00:00:00Z\n{}", "accounts = [\"acme\"]");
    let site =
        Setup::acme(&ca, origin.address).rest(&caller("other", OTHER_TOKEN, &past)).start().await;
    let without_id = |answer: &Answer| {
        let mut problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        problem["request_id"].take();
        problem
    };
    let wrong = [
        basic(CALLER, "wrong-token-0123456789abcdefghijklmn"),
        basic("nobody", TOKEN),
        basic("nobody", "wrong"),
        basic("other", OTHER_TOKEN),
        basic("other", TOKEN),
        "Bearer wrong".to_owned(),
        format!("Digest {TOKEN}"),
        "Basic !!!".to_owned(),
    ];
    let mut told = Vec::new();
    for credentials in &wrong {
        let (_, answer) = connect(&site, &format!("{API}:443"), credentials).await;
        assert_eq!(answer.status, 407, "{credentials}");
        assert_eq!(answer.field("proxy-authenticate"), Some("Basic realm=\"countersign\""));
        told.push(without_id(&answer));
    }
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
    for good in [flow(), format!("Bearer {TOKEN}"), format!("bearer  {TOKEN}")] {
        assert_eq!(get_plain(&site, &format!("http://{API}/"), &good).await.status, 200, "{good}");
    }
    let mut limited = false;
    for _ in 0..100 {
        limited |= connect(&site, &format!("{API}:443"), &wrong[0]).await.1.status == 429;
    }
    assert!(limited, "guessing is limited");
    assert_eq!(get_plain(&site, &format!("http://{API}/"), &flow()).await.status, 200);
    assert_eq!(origin.seen.heads().len(), 4);
    site.close().await;
}

/// A client of the TLS listener with a certificate of its own.
async fn with_certificate(site: &Site, ca: &Ca, identity: Option<Identity>) -> Option<Answer> {
    let mut stream = pki::greet(site.ports.tls, ca, identity).await.ok()?;
    let request = format!("GET http://{API}/ HTTP/1.1\r\nHost: {API}\r\n\r\n");
    // In TLS 1.3 a refusal of the certificate comes after the handshake.
    stream.write_all(request.as_bytes()).await.ok()?;
    let answer = read_answer(&mut stream, "GET").await;
    (answer.status != 0).then_some(answer)
}

/// A TLS listener that asks for certificates of `clients`, and the caller whom one of them proves.
fn asking(ca: &Ca, clients: &Ca, origin: &Origin, keys: &str) -> Setup {
    let listener = ca.issue(&["proxy.test"], |_| {});
    Setup::bare(ca)
        .app("acme", &[API], BEARER)
        .account("acme", "acme")
        .resolve(&format!("{API}:443"), origin.address)
        .file("tls.pem", &listener.certificate_pem)
        .file("tls.key", &listener.key_pem)
        .file("clients.pem", &clients.pem)
        .proxy(&format!(
            "tls_listen = [\"127.0.0.1:{{tls}}\"]\ntls = {{ certificate = \"tls.pem\", key = \"tls.key\", {keys} }}"
        ))
        .rest("[callers.machine]\ncertificate = \"machine.test\"\naccounts = [\"acme\"]\nrules = [{}]")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_proves_a_caller_by_its_alternative_name() {
    let (ca, clients, strangers) = (Ca::new(), Ca::new(), Ca::new());
    let origin = telling_origin(&ca, &[API]).await;
    let site = asking(&ca, &clients, &origin, "client_ca = \"clients.pem\"").start().await;
    let name = "machine.test";
    let answer = with_certificate(&site, &ca, Some(clients.client(&[name]))).await.unwrap();
    assert_eq!((answer.status, credential(&origin).as_str()), (200, KEY));
    // Known to the CA, and nobody's.
    let only_cn = clients.issue(&["someone.test"], |params| {
        pki::for_clients(params);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
    });
    for other in [only_cn, clients.client(&["other.test"]), clients.client(&["x.machine.test"])] {
        let answer = with_certificate(&site, &ca, Some(other)).await.unwrap();
        assert_eq!(answer.status, 407);
    }
    assert_eq!(with_certificate(&site, &ca, None).await.unwrap().status, 407);
    // Not known to the CA, or not for this.
    let out_of_date = clients.issue(&[name], |params| {
        pki::for_clients(params);
        pki::expired(params);
    });
    let for_servers = clients.issue(&[name], |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    for (what, bad) in [
        ("another CA", strangers.client(&[name])),
        ("self-signed", Identity::self_signed(name)),
        ("expired", out_of_date),
        ("wrong purpose", for_servers),
    ] {
        assert!(with_certificate(&site, &ca, Some(bad)).await.is_none(), "{what}");
    }
    assert_eq!(origin.seen.heads().len(), 1);
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_client_certificate_is_refused_as_soon_as_the_list_says_so() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let origin = telling_origin(&ca, &[API]).await;
    let keys = "client_ca = \"clients.pem\", client_crl = \"revoked.pem\"";
    let site = asking(&ca, &clients, &origin, keys)
        .file("revoked.pem", &clients.revokes(&[1], 2090))
        .start()
        .await;
    let numbered = |serial: u64| {
        clients.issue(&["machine.test"], |params| {
            pki::for_clients(params);
            params.serial_number = Some(rcgen::SerialNumber::from(serial));
        })
    };
    let status = async |serial: u64| {
        with_certificate(&site, &ca, Some(numbered(serial))).await.map(|answer| answer.status)
    };
    assert_eq!((status(1).await, status(2).await, status(3).await), (None, Some(200), Some(200)));

    let read_anew = async |list: String| {
        let before = site.log().matches("was read anew").count();
        site.write("revoked.pem", &list);
        site.until("the list", || site.log().matches("was read anew").count() > before).await;
    };
    read_anew(clients.revokes(&[1, 2], 2090)).await;
    assert_eq!((status(2).await, status(3).await), (None, Some(200)));
    // Nobody can say any more who is not on it.
    read_anew(clients.revokes(&[1, 2], 2021)).await;
    assert_eq!(status(3).await, None);
    assert_eq!(with_certificate(&site, &ca, None).await.unwrap().status, 407);
    read_anew(Ca::new().revokes(&[], 2090)).await;
    assert_eq!(status(3).await, None, "another CA's list says nothing of it");
    site.close().await;
}

async fn gateway(site: &Site, path: &str, lines: &str) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", site.ports.web)).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{lines}\r\n", site.ports.web);
    exchange(&mut stream, &request).await
}

/// §4: what SDKs do with a key they are given, for the ways in which APIs take keys.
#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_takes_the_token_where_an_sdk_puts_its_key() {
    let ca = Ca::new();
    let hosts = ["api.bearer.test", "api.header.test", "api.basic.test"];
    let origin = telling_origin(&ca, &hosts).await;
    let mut setup = Setup::bare(&ca)
        .app("bearer", &hosts[..1], BEARER)
        .app("header", &hosts[1..2], "attach = [ { header = \"X-Api-Key\", value = \"{api_key}\" }, { static = \"Version\", value = \"1\", when = \"absent\" } ]")
        .app("basic", &hosts[2..], "attach = [ { basic = { username = \"{api_key}\", password = \"\" } } ]")
        .rest(&caller(CALLER, TOKEN, "accounts = [\"bearer\", \"header\", \"basic\"]\nrules = [{}]"));
    for (app, host) in ["bearer", "header", "basic"].iter().zip(hosts) {
        setup = setup.account(app, app).resolve(&format!("{host}:443"), origin.address);
    }
    let site = setup.start().await;
    let key = basic(KEY, "");
    for (app, proof, expected) in [
        ("bearer", format!("Authorization: Bearer {TOKEN}"), format!("Bearer {KEY}")),
        ("header", format!("X-Api-Key: {TOKEN}"), KEY.to_owned()),
        ("header", format!("Authorization: Bearer {TOKEN}"), KEY.to_owned()),
        ("basic", format!("Authorization: {}", basic(TOKEN, "")), key.clone()),
        ("basic", format!("Authorization: {}", basic("", TOKEN)), key.clone()),
        ("bearer", format!("Proxy-Authorization: {}", flow()), format!("Bearer {KEY}")),
        ("bearer", format!("Authorization: Bearer {TOKEN}~bearer"), format!("Bearer {KEY}")),
    ] {
        let path = format!("/gateway/{app}/v1/models?a=%2F");
        let answer = gateway(&site, &path, &format!("{proof}\r\n")).await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "/v1/models?a=%2F"),
            "{app} {proof}"
        );
        let head = origin.seen.heads().last().unwrap().clone();
        assert!(head.contains(&format!(": {expected}\r\n")), "{app}: {head}");
        assert!(!head.contains(TOKEN) && !head.contains(&basic(TOKEN, "")), "{app}: {head}");
        assert!(head.contains(&format!("api.{app}.test\r\n")), "{head}");
    }
    let seen = origin.seen.heads().len();
    for (path, lines, status) in [
        ("/gateway/bearer/x", "", 407),
        ("/gateway/bearer/x", "Authorization: Bearer wrong\r\n", 407),
        ("/gateway/nothing/x", "", 407),
        ("/gateway/nothing/x", &format!("Authorization: Bearer {TOKEN}\r\n"), 404),
        ("/gateway/", "", 400),
        ("/elsewhere", "", 404),
    ] {
        let answer = gateway(&site, path, lines).await;
        assert!(
            answer.status == status || (status == 407 && answer.status == 401),
            "{path}: {answer:?}"
        );
    }
    // DNS rebinding: a page's own name is not ours.
    let mut stream = TcpStream::connect(("127.0.0.1", site.ports.web)).await.unwrap();
    let asked = format!(
        "GET /gateway/bearer/x HTTP/1.1\r\nHost: evil.test\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    assert_eq!(exchange(&mut stream, &asked).await.status, 421);
    assert_eq!(origin.seen.heads().len(), seen);
    site.close().await;
}

/// Everyone who is known is told who they are, in clear and inside TLS.
#[tokio::test(flavor = "multi_thread")]
async fn the_magic_host_answers_by_both_doors() {
    let ca = Ca::new();
    let origin = telling_origin(&ca, &[API]).await;
    let site = Setup::acme(&ca, origin.address).start().await;
    let plain = get_plain(&site, "http://countersign.internal/status", &flow()).await;
    let mut stream = inside_as(&site, "countersign.internal", &flow(), "http/1.1").await;
    let asked = "GET /status HTTP/1.1\r\nHost: countersign.internal\r\n\r\n";
    let tunnelled = exchange(&mut stream, asked).await;
    for answer in [plain, tunnelled] {
        let status: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            (&status["caller"], &status["accounts"][0]["account"]),
            (&"flow".into(), &"acme".into())
        );
    }
    let pem = get_plain(&site, "http://countersign.internal/ca.pem", &flow()).await;
    assert_eq!(pem.text().trim(), site.ca_pem().await.trim());
    let stranger = get_plain(&site, "http://countersign.internal/status", &basic("x", "y")).await;
    assert_eq!(stranger.status, 407);
    site.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_no_app_are_refused_where_the_config_says_so() {
    let ca = Ca::new();
    let trap = scripted(ca.server(&["open.test", "listed.test"]), Vec::new()).await;
    let lines = "rules = [{ host = \"listed.test\" }]";
    let site = Setup::bare(&ca)
        .proxy("unmatched = \"deny\"")
        .resolve("open.test", trap.address)
        .resolve("listed.test", trap.address)
        .rest(&caller(CALLER, TOKEN, lines))
        .start()
        .await;
    let (mut stream, answer) = connect(&site, "open.test:443", &flow()).await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "unmatched"));
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(answer.text().contains("host = \\\"open.test\\\""), "{}", answer.text());
    assert!(client::ends_within(&mut stream, Duration::from_secs(1)).await);
    assert_eq!(get_plain(&site, "http://open.test/", &flow()).await.status, 403);
    let (stream, answer) = connect(&site, "listed.test:443", &flow()).await;
    assert_eq!(answer.status, 200);
    // Blind: the origin's own certificate, not a leaf of ours.
    let mut stream = tls(pki::client_config(&ca.pem, &[], None), "listed.test", stream).await;
    let asked = "GET /own HTTP/1.1\r\nHost: listed.test\r\n\r\n";
    assert_eq!(exchange(&mut stream, asked).await.text(), "/own");
    drop(stream);
    site.close().await;
}

/// `unbound = "tunnel"`: an app's host is left alone for those who have no account of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_unbound_app_is_tunnelled_where_the_config_says_so() {
    let ca = Ca::new();
    let origin = telling_origin(&ca, &[API]).await;
    let site = Setup::acme(&ca, origin.address)
        .proxy("unbound = \"tunnel\"")
        .rest(&caller("other", OTHER_TOKEN, "rules = [{}]"))
        .start()
        .await;
    let (stream, answer) =
        connect(&site, &format!("{API}:443"), &basic("other", OTHER_TOKEN)).await;
    assert_eq!(answer.status, 200);
    let mut stream = tls(pki::client_config(&ca.pem, &[], None), API, stream).await;
    let asked = format!("GET /blind HTTP/1.1\r\nHost: {API}\r\nAuthorization: mine\r\n\r\n");
    assert_eq!(exchange(&mut stream, &asked).await.text(), "/blind");
    assert!(origin.seen.heads()[0].contains("Authorization: mine\r\n"));
    drop(stream);
    assert!(!origin.seen.heads()[0].contains(KEY));
    // Who has one is intercepted as ever.
    assert_eq!(get(&site, "/signed").await.text(), "/signed");
    assert_eq!(credential(&origin), KEY);
    // And a port that the app does not list is no tunnel for anybody.
    let (mut stream, answer) =
        connect(&site, &format!("{API}:22"), &basic("other", OTHER_TOKEN)).await;
    assert_eq!(answer.status, 200);
    let asked = format!("GET / HTTP/1.1\r\nHost: {API}:22\r\n\r\n");
    assert_eq!(exchange(&mut stream, &asked).await.status, 403);
    site.close().await;
}

/// Rules 1 and 3, seen together: one authority, one credential, nothing of ours beyond.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_beside_its_request_never_reaches_the_origin() {
    let ca = Ca::new();
    let origin = telling_origin(&ca, &[API]).await;
    let site = Setup::acme(&ca, origin.address).start().await;
    let request = format!(
        "GET /x HTTP/1.1\r\nHost: {API}\r\nauthorization: Bearer mine\r\nAuthorization: Bearer two\r\n\
         Connection: authorization, x-private\r\nX-Private: 1\r\nProxy-Authorization: {}\r\n\
         Countersign-Account: acme\r\nX-Countersign-Source: upstream\r\nKeep-Alive: 5\r\n\
         TE: trailers\r\nX-Kept: yes\r\n\r\n",
        flow()
    );
    let answer = fetch(&site, &request).await;
    assert_eq!((answer.status, answer.field("x-countersign-source")), (200, Some("upstream")));
    assert_eq!(credential(&origin), KEY);
    let head = origin.seen.heads()[0].to_lowercase();
    for gone in ["proxy-", "countersign", "x-private", "keep-alive", "mine", "two"] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
    assert!(head.contains("x-kept: yes\r\n"));
    for wrong in ["other.test", "api.acme.test:8443", "api.acme.test, other.test"] {
        let answer = fetch(&site, &format!("GET / HTTP/1.1\r\nHost: {wrong}\r\n\r\n")).await;
        assert!(matches!(answer.status, 400 | 421), "{wrong}: {answer:?}");
    }
    let mut stream = dial(&site).await;
    let config = pki::client_config(&site.ca_pem().await, &["http/1.1"], None);
    let asked = format!(
        "CONNECT {API}:443 HTTP/1.1\r\nHost: {API}:443\r\nProxy-Authorization: {}\r\n\r\n",
        flow()
    );
    stream.write_all(asked.as_bytes()).await.unwrap();
    assert_eq!(status_of(&read_head(&mut stream).await), 200);
    let other = "countersign.internal".to_owned().try_into().unwrap();
    let shaken = tokio_rustls::TlsConnector::from(config).connect(other, stream).await;
    assert!(shaken.is_err_and(|error| error.to_string().contains("UnrecognisedName")));
    let trace = fetch(&site, &format!("TRACE / HTTP/1.1\r\nHost: {API}\r\n\r\n")).await;
    assert_eq!(trace.status, 405);
    let mut idle = inside(&site).await;
    assert_eq!(
        exchange(&mut idle, &format!("GET / HTTP/1.0\r\nHost: {API}\r\n\r\n")).await.status,
        200
    );
    assert_eq!(origin.seen.heads().len(), 2);
    site.close().await;
}

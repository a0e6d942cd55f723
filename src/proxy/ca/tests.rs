use std::fs;
use std::io::Write as _;
use std::process::Command;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, SanType};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConnection};

use super::issue::common_name;
use super::listener::roots;
use super::*;

fn settings() -> CaSettings {
    CaSettings {
        permitted: Vec::new(),
        ca_lifetime: MAX_CA_LIFETIME,
        leaf_lifetime: MAX_LEAF_LIFETIME,
        leaf_cache: 8,
    }
}

fn permitting(names: &[&str]) -> CaSettings {
    CaSettings { permitted: names.iter().copied().map(host).collect(), ..settings() }
}

fn host(text: &str) -> Host {
    text.parse().expect(text)
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn open(dir: &Path, settings: &CaSettings) -> CertificateAuthority {
    CertificateAuthority::open_or_create(dir, settings, &Clock::System).expect("a CA").0
}

fn open_error(dir: &Path) -> String {
    let opened = CertificateAuthority::open_or_create(dir, &settings(), &Clock::System);
    opened.err().expect("a refusal").to_string()
}

/// As if the host were permitted, so that the client is the one who must refuse.
fn ignoring_constraints(mut ca: CertificateAuthority) -> CertificateAuthority {
    ca.constraints = Constraints { any: true, ..Constraints::default() };
    ca
}

fn leaf_of(ca: &CertificateAuthority, name: &str) -> CertificateDer<'static> {
    let now = ca.clock.now();
    let serial = serial().expect("a serial");
    let params = leaf_params(&host(name), now - BACKDATE, now + MAX_LEAF_LIFETIME, serial);
    params.signed_by(&ca.leaf_keys, &ca.issuer).expect("a leaf").der().clone()
}

fn trusting(pem: &str) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots(pem.as_bytes()).expect("roots"))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// A whole TLS handshake in memory, with one byte of answer so that tickets arrive.
fn shake_hands(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).expect("a server name");
    let mut client = ClientConnection::new(client, name)?;
    let mut server = ServerConnection::new(server)?;
    server.writer().write_all(b".").expect("buffers");
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).expect("memory");
        server.read_tls(&mut wire.as_slice()).expect("memory");
        server.process_new_packets()?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory");
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("memory");
            client.process_new_packets()?;
        }
    }
    Ok((client, server))
}

fn openssl(args: &[&str]) -> Option<(bool, String)> {
    let Ok(output) = Command::new("openssl").args(args).output() else {
        eprintln!("skipped: openssl is not installed");
        return None;
    };
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

fn openssl_verifies(ca: &CertificateAuthority, name: &str) -> Option<(bool, String)> {
    let dir = dir();
    let (root, leaf) = (dir.path().join("ca.pem"), dir.path().join("leaf.der"));
    fs::write(&root, ca.pem()).expect("written");
    fs::write(&leaf, leaf_of(ca, name)).expect("written");
    let (root, leaf) = (root.to_str().expect("utf-8"), leaf.to_str().expect("utf-8"));
    let about = if host(name).ip().is_some() { "-verify_ip" } else { "-verify_hostname" };
    let bare = name.trim_matches(['[', ']']);
    openssl(&[
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-CAfile",
        root,
        about,
        bare,
        leaf,
    ])
}

#[test]
fn openssl_accepts_leaves_strictly() {
    let dir = dir();
    let ca = open(dir.path(), &settings());
    let long = format!("{}.example.test", ["a".repeat(60).as_str(), "b"].join("."));
    for name in ["api.acme.test", "127.0.0.1", "[::1]", "my_host.example", long.as_str()] {
        let Some((ok, text)) = openssl_verifies(&ca, name) else { return };
        assert!(ok, "{name}: {text}");
    }
}

#[test]
fn openssl_and_webpki_hold_a_ca_to_its_name_constraints() {
    let dir = dir();
    let ca = ignoring_constraints(open(dir.path(), &permitting(&["acme.test", "api.beta.test"])));
    for (name, allowed) in [
        ("acme.test", true),
        ("deep.api.acme.test", true),
        ("api.beta.test", true),
        ("beta.test", false),
        ("evil.test", false),
        ("notacme.test", false),
        ("127.0.0.1", false),
    ] {
        let config = ca.server_config(&host(name)).expect("minted");
        let shaken = shake_hands(trusting(ca.pem()), config, name);
        assert_eq!(shaken.is_ok(), allowed, "webpki {name}: {:?}", shaken.err());
        if let Some((ok, text)) = openssl_verifies(&ca, name) {
            assert_eq!(ok, allowed, "openssl {name}: {text}");
        }
    }
}

#[test]
fn a_constrained_ca_says_which_host_it_may_not_sign_for() {
    let everything = ["api.acme.test", "evil.test", "10.0.0.1", "10.0.0.2", "[::1]"];
    for (permitted, allowed) in [
        (&["acme.test"][..], &["api.acme.test"][..]),
        (&["10.0.0.1"], &["10.0.0.1"]),
        (&["acme.test", "[::1]"], &["api.acme.test", "[::1]"]),
        (&[], &everything),
    ] {
        let dir = dir();
        let ca = open(dir.path(), &permitting(permitted));
        for name in everything {
            let got = ca.server_config(&host(name));
            assert_eq!(got.is_ok(), allowed.contains(&name), "{permitted:?} {name}");
        }
    }
}

#[test]
fn addresses_alone_leave_no_name_to_a_constrained_ca() {
    let dir = dir();
    let ca = ignoring_constraints(open(dir.path(), &permitting(&["127.0.0.1"])));
    for (name, allowed) in [("127.0.0.1", true), ("127.0.0.2", false), ("evil.test", false)] {
        let config = ca.server_config(&host(name)).expect("minted");
        let shaken = shake_hands(trusting(ca.pem()), config, name);
        assert_eq!(shaken.is_ok(), allowed, "{name}");
    }
}

#[test]
fn a_client_that_trusts_the_ca_shakes_hands_and_resumes() {
    let dir = dir();
    let ca = open(dir.path(), &settings());
    let client = trusting(ca.pem());
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let config = ca.server_config(&host("api.acme.test")).expect("minted");
        let (client, _server) =
            shake_hands(client.clone(), config, "api.acme.test").expect("a handshake");
        assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(client.handshake_kind(), Some(kind));
    }
}

#[test]
fn another_server_name_gets_no_leaf() {
    let dir = dir();
    let ca = open(dir.path(), &settings());
    let config = ca.server_config(&host("api.acme.test")).expect("minted");
    assert!(shake_hands(trusting(ca.pem()), config, "other.test").is_err());
}

#[test]
fn callers_at_once_cause_one_leaf() {
    let dir = dir();
    let ca = open(dir.path(), &settings());
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| ca.server_config(&host("api.acme.test")).expect("minted"));
        }
    });
    assert_eq!(ca.cache_stats(), CacheStats { entries: 1, hits: 15, minted: 1 });
}

#[test]
fn the_cache_keeps_its_bound_and_drops_the_least_used() {
    let dir = dir();
    let ca = open(dir.path(), &CaSettings { leaf_cache: 2, ..settings() });
    for name in ["a.test", "b.test", "a.test", "c.test", "a.test"] {
        ca.server_config(&host(name)).expect("minted");
    }
    assert_eq!(ca.cache_stats(), CacheStats { entries: 2, hits: 2, minted: 3 });
}

#[test]
fn a_leaf_is_renewed_before_it_ends_and_none_outlives_the_ca() {
    let dir = dir();
    let start = SystemTime::now();
    let clock = Clock::manual(start);
    let lives = CaSettings { ca_lifetime: Duration::from_secs(10 * DAY), ..settings() };
    let (ca, _) = CertificateAuthority::open_or_create(dir.path(), &lives, &clock).expect("a CA");
    let mut minted = Vec::new();
    for _ in 0..=9 {
        ca.server_config(&host("a.test")).expect("minted");
        minted.push(ca.cache_stats().minted);
        clock.advance(Duration::from_secs(DAY));
    }
    assert_eq!(minted, [1, 1, 1, 1, 1, 2, 2, 2, 2, 3]);
    clock.advance(Duration::from_secs(DAY));
    let error = ca.server_config(&host("b.test")).expect_err("a refusal").to_string();
    assert!(error.starts_with("the CA ended at"), "{error}");
}

#[test]
fn a_restart_reads_the_same_ca_and_an_old_one_is_announced() {
    let dir = dir();
    let clock = Clock::manual(SystemTime::now());
    let open = || CertificateAuthority::open_or_create(dir.path(), &settings(), &clock);
    let (first, opened) = open().expect("created");
    assert_eq!(opened, Opened::Created);
    let (second, opened) = open().expect("read");
    assert_eq!(opened, Opened::Existing);
    assert_eq!(first.fingerprint(), second.fingerprint());
    let leaf = second.server_config(&host("a.test")).expect("minted");
    shake_hands(trusting(first.pem()), leaf, "a.test").expect("the old root is good");
    clock.advance(MAX_CA_LIFETIME - EXPIRY_NOTICE);
    assert_eq!(open().expect("read").1, Opened::ExpiresSoon);
    clock.advance(EXPIRY_NOTICE);
    let error = open().err().expect("a refusal").to_string();
    assert!(error.contains("ended at") && error.contains("countersign ca install"), "{error}");
}

#[test]
fn processes_that_start_at_once_agree_on_one_ca() {
    let dir = dir();
    let path = dir.path().join("new").join("data");
    let prints: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| open(&path, &settings()).fingerprint())).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(prints.iter().all(|print| *print == prints[0]), "{prints:?}");
}

#[test]
fn a_missing_half_is_refused_and_never_replaced() {
    for (gone, left) in [("ca.key", "ca.pem"), ("ca.pem", "ca.key")] {
        let dir = dir();
        open(dir.path(), &settings());
        fs::remove_file(dir.path().join(gone)).expect("removed");
        let error = open_error(dir.path());
        assert!(error.contains(&format!("{gone} is missing")), "{error}");
        assert!(dir.path().join(left).exists() && !dir.path().join(gone).exists());
    }
}

#[test]
fn a_key_of_another_ca_is_refused() {
    let (one, two) = (dir(), dir());
    open(one.path(), &settings());
    open(two.path(), &settings());
    fs::copy(two.path().join("ca.key"), one.path().join("ca.key")).expect("copied");
    assert!(open_error(one.path()).contains("restore both from one backup"));
}

#[cfg(unix)]
#[test]
fn the_key_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = dir();
    let data = dir.path().join("data");
    open(&data, &settings());
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let key = data.join("ca.key");
    assert_eq!((mode(&data), mode(&key), mode(&data.join("ca.pem"))), (0o700, 0o600, 0o644));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("changed");
    let error = open_error(&data);
    assert!(error.contains("mode 0640") && error.contains("chmod 600"), "{error}");
}

#[test]
fn the_fingerprint_is_the_one_that_openssl_prints() {
    let dir = dir();
    let ca = open(dir.path(), &settings());
    let pem = dir.path().join("ca.pem");
    let pem = pem.to_str().expect("utf-8");
    let Some((_, text)) = openssl(&["x509", "-in", pem, "-noout", "-fingerprint", "-sha256"])
    else {
        return;
    };
    assert!(text.contains(&ca.fingerprint()), "{text}");
}

#[test]
fn a_listener_learns_the_names_in_a_client_certificate() {
    let dir = dir();
    let ca = open(dir.path(), &settings());
    let keys = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["flow.internal".to_owned()]).expect("params");
    let uri = "spiffe://acme.test/flow".try_into().expect("a URI");
    params.subject_alt_names.push(SanType::URI(uri));
    params.distinguished_name = common_name("not.looked.at");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&keys, &ca.issuer).expect("signed").der().clone();
    assert_eq!(certificate_names(&certificate), ["flow.internal", "spiffe://acme.test/flow"]);

    let server = leaf_pem(&ca, "proxy.test");
    let config = listener_config(
        server.as_bytes(),
        ca.leaf_keys.serialize_pem().as_bytes(),
        Some(Clients { ca: ca.pem().as_bytes(), crl: None }),
    );
    let config = Arc::new(config.expect("a listener"));
    let proves_itself = with_identity(ca.pem(), certificate.clone(), &keys);
    for (client, shown) in [(proves_itself, Some(&[certificate][..])), (trusting(ca.pem()), None)] {
        let (_, server) = shake_hands(client, config.clone(), "proxy.test").expect("a handshake");
        assert_eq!(server.peer_certificates(), shown);
    }
}

fn leaf_pem(ca: &CertificateAuthority, name: &str) -> String {
    let text =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, leaf_of(ca, name));
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

fn with_identity(
    root_pem: &str,
    certificate: CertificateDer<'static>,
    keys: &KeyPair,
) -> Arc<ClientConfig> {
    let key = PrivateKeyDer::Pkcs8(keys.serialize_der().into());
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots(root_pem.as_bytes()).expect("roots"))
        .with_client_auth_cert(vec![certificate], key);
    Arc::new(config.expect("an identity"))
}

#[test]
fn the_quickest_cipher_is_taken_of_those_that_a_client_offers() {
    let dir = dir();
    let ca = open(dir.path(), &settings());
    let server = ca.server_config(&host("api.acme.test")).expect("a leaf");
    // As OpenSSL has them.
    let usual = ["TLS13_AES_256_GCM_SHA384", "TLS13_CHACHA20", "TLS13_AES_128_GCM_SHA256"];
    for (offered, taken) in [
        (&usual[..], "TLS13_AES_128_GCM_SHA256"),
        (&usual[..2], "TLS13_AES_256_GCM_SHA384"),
        (&usual[1..2], "TLS13_CHACHA20_POLY1305_SHA256"),
        (&["ECDSA_WITH_AES_256", "ECDSA_WITH_AES_128"], "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        (&["ECDSA_WITH_AES_256"], "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    ] {
        let mut provider = aws_lc_rs::default_provider();
        let rank = |suite: &rustls::SupportedCipherSuite| {
            offered.iter().position(|name| format!("{:?}", suite.suite()).contains(name))
        };
        provider.cipher_suites.retain(|suite| rank(suite).is_some());
        provider.cipher_suites.sort_by_key(rank);
        let version = provider.cipher_suites[0].version();
        let client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .expect("the suites' version")
            .with_root_certificates(roots(ca.pem().as_bytes()).expect("roots"))
            .with_no_client_auth();
        let shaken = shake_hands(Arc::new(client), server.clone(), "api.acme.test");
        let (client, _) = shaken.expect("a handshake");
        let suite = client.negotiated_cipher_suite().expect("one").suite();
        assert_eq!(format!("{suite:?}"), taken, "of {offered:?}");
    }
}

#[test]
fn what_is_no_pem_is_named() {
    for (certificate, key, what) in
        [(&b"x"[..], &b""[..], "the listener's certificate"), (b"", b"", "the listener's")]
    {
        let error = listener_config(certificate, key, None).expect_err("a refusal").to_string();
        assert!(error.contains(what) && error.contains("no usable PEM"), "{error}");
    }
}

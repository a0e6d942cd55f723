//! The engine against `oidc-provider`, a certified OpenID Connect server, in a process of its own.
//! `make deps` installs it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use countersign::oauth::{Callback, Class, Poll, Revoked};
use tokio::process::Command;

use super::node::Server;
use super::{REDIRECT, Site, tokens};

const DEFINITION: &str = r#"authorize_url = "{as}/auth"
token_url = "{as}/token"
revoke_url = "{as}/token/revocation"
device_authorization_url = "{as}/device/auth"
issuer = "{as}"
issuer_in_callback = true
client_auth = "basic"
authorize_params = { prompt = "consent" }
default_scopes = ["openid", "offline_access"]
refresh = { rotates = true }"#;

struct Certified(Server);

impl Certified {
    async fn start() -> Self {
        Self(Server::start("authorization_server.mjs").await)
    }

    fn site(&self, kind: &str) -> Site {
        Site::new(self.0.address, kind, DEFINITION)
    }
}

/// Follows a browser's way with its cookies until it comes back to us; the callback's parameters.
pub(super) async fn browse(address: SocketAddr, url: &str) -> BTreeMap<String, String> {
    let jar = tempfile::NamedTempFile::new().expect("a file");
    let mut url = url.to_owned();
    for _ in 0..10 {
        if let Some(query) = url.strip_prefix(REDIRECT).and_then(|rest| rest.strip_prefix('?')) {
            return url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        }
        let resolve = format!("as.acme.test:{}:127.0.0.1", address.port());
        let output = Command::new("curl")
            .args(["-sS", "-o", "/dev/null", "-w", "%{redirect_url}", "--resolve", &resolve])
            .arg("-c")
            .arg(jar.path())
            .arg("-b")
            .arg(jar.path())
            .arg(&url)
            .output()
            .await
            .expect("curl is installed: make deps");
        url = String::from_utf8(output.stdout).expect("a URL");
        assert!(!url.is_empty(), "the browser was not sent on");
    }
    panic!("the browser goes round in circles");
}

#[tokio::test]
async fn a_code_rotation_and_reuse_detection() {
    let server = Certified::start().await;
    let site = server.site("oauth2");
    let scopes = ["email".to_owned()];
    let terms = site.terms(&scopes);
    let authorization = site.engine.authorize(&terms, REDIRECT, &scopes).expect("authorizes");
    let params = browse(server.0.address, &authorization.url).await;
    assert_eq!(params["state"], authorization.state.expose());

    let mut other = params.clone();
    other.insert("iss".to_owned(), "https://evil.example".to_owned());
    let callback = |params| Callback {
        params,
        verifier: authorization.verifier.clone(),
        redirect_uri: REDIRECT.to_owned(),
    };
    let error = site.engine.exchange(&terms, &callback(other)).await.err().expect("is refused");
    assert_eq!((error.code.as_str(), error.sent), ("issuer_mismatch", false));

    let first = site.engine.exchange(&terms, &callback(params)).await;
    let first = first.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(first.identity.as_deref(), Some("ann@acme.example"));
    assert!(first.scopes.as_ref().is_some_and(|scopes| scopes.contains(&"email".to_owned())));

    let held = tokens(&first.access, first.refresh.as_ref());
    let second = site.engine.renew(&terms, Some(&held)).await.unwrap_or_else(|e| panic!("{e}"));
    let newest = second.refresh.as_ref().expect("it rotates");
    assert!(!newest.same_as(first.refresh.as_ref().expect("the first has one")));

    let error = site.engine.renew(&terms, Some(&held)).await.err().expect("it was used");
    assert_eq!((error.class, error.code.as_str()), (Class::Dead, "invalid_grant"));
    let newest = tokens(&second.access, second.refresh.as_ref());
    let error = site.engine.renew(&terms, Some(&newest)).await.err().expect("all is revoked");
    assert_eq!(error.class, Class::Dead);
}

#[tokio::test]
async fn client_credentials_and_revocation() {
    let server = Certified::start().await;
    let machine = Site::new(
        server.0.address,
        "oauth2_client_credentials",
        &DEFINITION.replace("\"openid\", \"offline_access\"", "\"read\""),
    );
    let got = machine.engine.obtain(&machine.terms(&[])).await;
    let got = got.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(got.scopes.as_deref(), Some(["read".to_owned()].as_slice()));
    assert!(got.refresh.is_none());
    let again = machine.engine.renew(&machine.terms(&[]), None).await;
    assert!(!again.unwrap_or_else(|error| panic!("{error}")).access.same_as(&got.access));

    let held = tokens(&got.access, None);
    let revoked = machine.engine.revoke(&machine.terms(&[]), &held).await;
    assert_eq!(revoked.unwrap_or_else(|error| panic!("{error}")), Revoked::Done);
}

#[tokio::test]
async fn a_device_code_and_the_end_of_its_grant() {
    let server = Certified::start().await;
    let site = server.site("oauth2");
    let terms = site.terms(&[]);
    let device = site.engine.begin_device(&terms, &[]).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(matches!(site.engine.poll_device(&terms, &device).await, Ok(Poll::Pending)));

    let approve = format!("http://{}/approve?user_code={}", server.0.address, device.user_code);
    let approved = Command::new("curl").args(["-sS", "--fail", &approve]).output().await;
    assert!(approved.expect("curl is installed: make deps").status.success());
    let poll = site.engine.poll_device(&terms, &device).await.unwrap_or_else(|e| panic!("{e}"));
    let Poll::Done(got) = poll else { panic!("it was approved") };

    let held = tokens(&got.access, got.refresh.as_ref());
    let revoked = site.engine.revoke(&terms, &held).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(revoked, Revoked::Done);
    let error = site.engine.renew(&terms, Some(&held)).await.err().expect("is revoked");
    assert_eq!(error.class, Class::Dead);
}

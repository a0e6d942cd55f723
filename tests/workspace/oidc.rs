//! Logging in at `oidc-provider`, a certified OpenID Connect server in a process of its own; `make
//! deps` installs it.

use std::net::SocketAddr;

use countersign::vault::{InvitationKind, Role};
use tokio::process::Command;

use crate::house::House;
use crate::node::Server;
use crate::visitor::{PASSWORD, Page, Visitor, invite, member};

struct Idp(Server);

impl Idp {
    async fn start() -> Self {
        Self(Server::start("identity_provider.mjs").await)
    }

    async fn curl(&self, arguments: &[&str]) -> String {
        let resolve = format!("idp.acme.test:{}:127.0.0.1", self.0.address.port());
        let output = Command::new("curl")
            .args(["-sS", "--resolve", &resolve])
            .args(arguments)
            .output()
            .await
            .expect("curl is installed: make deps");
        String::from_utf8(output.stdout).expect("text")
    }

    async fn become_(&self, name: &str) {
        let url = format!("http://idp.acme.test:{}/become?as={name}", self.0.address.port());
        assert_eq!(self.curl(&[&url]).await, name);
    }

    /// Follows a browser's way through the provider until it is sent back.
    async fn browse(&self, url: &str) -> String {
        let jar = tempfile::NamedTempFile::new().expect("a file");
        let jar = jar.path().to_str().expect("text").to_owned();
        let mut url = url.to_owned();
        for _ in 0..10 {
            if url.contains("/login/callback?") {
                return url;
            }
            let arguments = ["-w", "\n%{redirect_url}", "-c", &jar, "-b", &jar, &url];
            let answer = self.curl(&arguments).await;
            let (body, next) = answer.rsplit_once('\n').expect("a line of its own");
            assert!(!next.is_empty(), "the browser was not sent on from {url}: {body}");
            url = next.to_owned();
        }
        panic!("the browser goes round in circles");
    }
}

async fn house(idp: SocketAddr, more: &str) -> House {
    let port = idp.port();
    let sections = format!(
        "[login]\n{more}\n[login.oidc]\nissuer = \"http://idp.acme.test:{port}\"\n\
         client_id = \"workspace\"\nclient_secret = {{ value = \"workspace-secret-1\" }}\n\
         name = \"Acme ID\"\ndomains = [\"corp.test\"]\n"
    );
    let mut house = House::sqlite_and(&sections, "").await;
    let resolve = format!("\"idp.acme.test:{port}\" = \"{idp}\"\n");
    house.site.setup.resolve.push_str(&resolve);
    house.site.setup.secrets.push("workspace-secret-1".to_owned());
    house.site.write("countersign.toml", &house.site.config());
    house.start().await;
    house
}

/// Path and query.
fn local(url: &str) -> String {
    let url = url::Url::parse(url).unwrap();
    url[url::Position::BeforePath..].to_owned()
}

async fn log_in(idp: &Idp, visitor: &mut Visitor, next: &str) -> Page {
    let away = visitor.get(&format!("/login/oidc?next={next}")).await;
    assert_eq!(away.status, 303, "{}", away.body);
    let back = idp.browse(away.location()).await;
    visitor.get(&local(&back)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn members_log_in_at_the_identity_provider_and_nobody_else_does() {
    let idp = Idp::start().await;
    let mut house = house(idp.0.address, "").await;
    let mut stranger = Visitor::new(&house);
    // Nobody becomes the first by the provider.
    assert_eq!(log_in(&idp, &mut stranger, "/accounts").await.status, 403);
    member(&house, "owner@acme.test", Role::Owner).await;
    let page = stranger.get("/login").await;
    assert!(page.has("Continue with Acme ID") && page.has("Password"), "{}", page.body);

    invite(&house, InvitationKind::Invite, Some("ann@acme.test"), Role::Admin).await;
    invite(&house, InvitationKind::Invite, Some("ben@acme.test"), Role::Admin).await;
    let mut ann = Visitor::new(&house);
    let page = log_in(&idp, &mut ann, "/accounts%3Fq%3Dx").await;
    assert_eq!((page.status, page.location()), (303, "/accounts?q=x"), "{}", page.body);
    let vault = house.shop.vault();
    let known = vault.member_by_email("ann@acme.test").await.unwrap().unwrap();
    assert_eq!((known.role, &*known.name), (Role::Admin, "Ann of the provider"));
    assert!(
        !vault
            .invitations()
            .await
            .unwrap()
            .iter()
            .any(|one| { one.details.email.as_deref() == Some("ann@acme.test") })
    );
    assert_eq!(log_in(&idp, &mut Visitor::new(&house), "/accounts").await.status, 303);

    for (person, expected) in [("ben", 403), ("eve", 403), ("cat", 303)] {
        idp.become_(person).await;
        let page = log_in(&idp, &mut Visitor::new(&house), "/accounts").await;
        assert_eq!(page.status, expected, "{person}: {}", page.body);
    }
    let page = ann.get("/members").await;
    assert!(page.has("cat@corp.test") && !page.has("<img src=x"), "{}", page.body);
    house.site.setup.secrets.push(PASSWORD.to_owned());
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_counts_once_and_in_the_browser_that_began_it() {
    let idp = Idp::start().await;
    let mut house = house(idp.0.address, "password = false").await;
    member(&house, "ann@acme.test", Role::Owner).await;
    let (mut ann, mut eve) = (Visitor::new(&house), Visitor::new(&house));
    let page = ann.log_in("ann@acme.test", PASSWORD).await;
    assert_eq!(page.status, 403, "passwords are off");
    assert!(!ann.get("/login").await.has("name=\"password\""));

    let away = ann.get("/login/oidc").await.location().to_owned();
    let back = local(&idp.browse(&away).await);
    assert_eq!(eve.get(&back).await.status, 400, "without the cookie");
    eve.get("/login/oidc").await;
    assert_eq!(eve.get(&back).await.status, 400, "with the cookie of another login");
    let forged = back.replace("iss=http", "iss=https");
    assert_ne!(forged, back);
    let kept = ann.cookies.clone();
    assert_eq!(ann.get(&forged).await.status, 400, "another server's answer");
    ann.cookies = kept.clone();
    assert_eq!(ann.get(&back).await.status, 303);
    ann.cookies = kept;
    assert_eq!(ann.get(&back).await.status, 400, "the code was used");
    let denied = "/login/callback?error=access_denied&state=x";
    assert_eq!(eve.get(denied).await.status, 400);
    house.site.setup.secrets.push(PASSWORD.to_owned());
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cannot_be_read_is_not_asked_for_each_login() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let broken = b"HTTP/1.1 500 Broken\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, broken).await;
        }
    });
    let house = house(address, "").await;
    let mut stranger = Visitor::new(&house);
    for _ in 0..20 {
        let page = stranger.get("/login/oidc?next=/accounts").await;
        assert!(page.status >= 400 || page.location().starts_with("/login"), "{page:?}");
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    house.close().await;
}

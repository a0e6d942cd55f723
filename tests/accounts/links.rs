//! A dead account: its callers get a link, its owner consents again in a browser, and the operator's
//! server hears of both.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::house::{HOOKS, House, browse, expire, get_on, until};
use crate::origin;
use crate::pki::Ca;

const SOON: Duration = Duration::from_secs(5);

/// An answer of the web listener.
struct Page {
    head: String,
    body: String,
}

impl Page {
    fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    fn is(&self, status: u16) -> bool {
        self.head.starts_with(&format!("HTTP/1.1 {status} "))
    }
}

/// What a browser with this cookie is shown.
async fn visit(url: &str, cookie: &str) -> Page {
    let url = url::Url::parse(url).unwrap();
    let address = (url.host_str().unwrap(), url.port().unwrap());
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}:{}\r\nCookie: other=1; {cookie}\r\nConnection: close\r\n\r\n",
        &url[url::Position::BeforePath..],
        address.0,
        address.1
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Page { head: head.to_owned(), body: body.to_owned() }
}

/// The operator's server: answers 500 once, and keeps what it is told.
async fn hooks(ca: &Ca) -> (std::net::SocketAddr, Arc<Mutex<Vec<String>>>) {
    let told = Arc::<Mutex<Vec<String>>>::default();
    let kept = told.clone();
    let origin = origin::start(ca.server(&[HOOKS]), move |mut stream, seen| {
        let told = kept.clone();
        async move {
            while let Some(head) = seen.request(&mut stream).await {
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("content-length").then(|| value.parse().unwrap())
                });
                let mut body = vec![0; length.unwrap_or(0)];
                stream.read_exact(&mut body).await.unwrap();
                let first = {
                    let mut told = told.lock().unwrap();
                    told.push(format!("{head}{}", String::from_utf8(body).unwrap()));
                    told.len() == 1
                };
                let status = if first { "500 No" } else { "204 Yes" };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (origin.address, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_of_a_refusal_leads_to_a_new_consent_by_the_same_person_only() {
    let webhook =
        format!("[webhook]\nurl = \"https://{HOOKS}/told\"\nsecret = {{ value = \"whsec\" }}\n");
    let mut house = House::sqlite_and(&webhook, "identity = \"/account\"").await;
    let (address, told) = hooks(house.pki()).await;
    house.hooks_at(address);
    house.provider.behave(|behaviour| behaviour.identity = Some("me@acme.test"));
    let account = house.connect("acme").await;
    assert_eq!(account.identity.as_deref(), Some("me@acme.test"));
    let caller = house.caller("flow", &[&account]).await;
    expire(&house, &account).await;
    house.start().await;
    house.provider.kill_all();
    let mut tunnel = house.tunnel(&caller).await;
    let refused = get_on(&mut tunnel, "/").await;
    assert_eq!((refused.status, refused.problem().as_str()), (424, "account_dead"));
    let problem: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
    let link = problem["reconnect"].as_str().unwrap().to_owned();
    assert!(link.contains("/connect/reconnect?ticket=apn_"), "{link}");

    let page = visit(&link, "").await;
    assert!(page.is(200) && page.body.contains("me@acme.test"), "{}{}", page.head, page.body);
    assert!(!page.head.to_lowercase().contains("unsafe-inline"), "{}", page.head);
    for bad in [link.replace("apn_", "apn_x"), format!("{link}0"), link.replace("ticket", "t")] {
        let page = visit(&bad, "").await;
        assert!(page.is(400) && page.body.contains("not valid"), "{bad}: {}", page.body);
    }

    let start = link.replace("/reconnect?", "/start?");
    let begun = visit(&start, "").await;
    assert!(begun.is(303), "{}", begun.head);
    let cookie = begun.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert!(begun.field("set-cookie").unwrap().contains("HttpOnly; SameSite=Lax"));
    let back = browse(&house.provider, begun.field("location").unwrap()).await;
    // Another browser, and nobody's state.
    for (url, cookie, title) in [
        (back.clone(), "countersign_flow=other", "Another browser began this"),
        (link.replace("reconnect?ticket", "callback?state"), &cookie, "This step is over"),
    ] {
        let page = visit(&url, cookie).await;
        assert!(page.is(400) && page.body.contains(title), "{}", page.body);
    }
    // As somebody else.
    house.provider.behave(|behaviour| behaviour.identity = Some("mallory@acme.test"));
    let begun = visit(&start, "").await;
    let cookie = begun.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let back = browse(&house.provider, begun.field("location").unwrap()).await;
    let page = visit(&back, &cookie).await;
    assert!(page.is(400) && page.body.contains("mallory@acme.test"), "{}", page.body);
    assert!(house.stored(&account.id).await.health.dead);

    house.provider.behave(|behaviour| behaviour.identity = Some("me@acme.test"));
    let begun = visit(&start, "").await;
    let cookie = begun.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let back = browse(&house.provider, begun.field("location").unwrap()).await;
    let page = visit(&back, &cookie).await;
    assert!(page.is(200) && page.body.contains("works again"), "{}{}", page.head, page.body);
    let twice = visit(&back, &cookie).await;
    assert!(twice.is(400), "{}", twice.head);
    assert_eq!(get_on(&mut tunnel, "/").await.status, 200);
    assert!(!house.stored(&account.id).await.health.dead);

    until("the operator's server is told, also after it failed once", SOON, || async {
        let told = told.lock().unwrap();
        told.len() >= 3 && told.iter().any(|said| said.contains("CONNECTION_RECOVERED"))
    })
    .await;
    let told = told.lock().unwrap().clone();
    assert!(told[0].contains("\"event\":\"CONNECTION_DEAD\""), "{told:?}");
    assert!(told[0].to_lowercase().contains("x-pd-signature: t="), "{told:?}");
    assert!(told[1..].iter().any(|said| said.contains("CONNECTION_DEAD")), "{told:?}");
    house.close().await;
}

//! A browser without scripts: keeps cookies, fills in forms, follows redirects when told to.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use countersign::secret::TokenDigest;
use countersign::vault::{InvitationDetails, InvitationKind, Member, Role};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::house::{House, until};

pub const PASSWORD: &str = "correct horse battery";

pub struct Visitor {
    port: u16,
    pub cookies: BTreeMap<String, String>,
}

/// What a page said.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Page {
    pub fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    pub fn location(&self) -> &str {
        self.field("location").unwrap_or_default()
    }

    pub fn has(&self, text: &str) -> bool {
        self.body.contains(text)
    }

    /// The first value of a field of its forms.
    pub fn value_of(&self, field: &str) -> Option<&str> {
        let (_, rest) = self.body.split_once(&format!("name=\"{field}\" value=\""))?;
        Some(rest.split_once('"')?.0)
    }
}

/// How a form is sent, where a test wants it otherwise than a browser.
#[derive(Default, Clone, Copy)]
pub struct Manner<'a> {
    pub fields: &'a [(&'a str, &'a str)],
    pub csrf: Option<&'a str>,
}

pub fn encode(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

impl Visitor {
    pub fn new(house: &House) -> Self {
        Self { port: house.site.ports.web, cookies: BTreeMap::new() }
    }

    pub async fn get(&mut self, path: &str) -> Page {
        self.send("GET", path, &[("Accept", "text/html")], "").await
    }

    /// Sends a form as a browser does that has just loaded a page of the same session.
    pub async fn post(&mut self, path: &str, pairs: &[(&str, &str)]) -> Page {
        let csrf = match self.cookies.contains_key("countersign_session") {
            true => self.get("/accounts").await.value_of("csrf").unwrap_or_default().to_owned(),
            false => String::new(),
        };
        let manner = Manner { fields: &[("Sec-Fetch-Site", "same-origin")], csrf: Some(&csrf) };
        self.post_as(path, pairs, manner).await
    }

    pub async fn post_as(
        &mut self,
        path: &str,
        pairs: &[(&str, &str)],
        manner: Manner<'_>,
    ) -> Page {
        let mut pairs = pairs.to_vec();
        pairs.extend(manner.csrf.map(|csrf| ("csrf", csrf)));
        let mut fields = manner.fields.to_vec();
        fields.push(("Content-Type", "application/x-www-form-urlencoded"));
        self.send("POST", path, &fields, &encode(&pairs)).await
    }

    /// Sends a form with one file, as a browser does.
    pub async fn post_file(
        &mut self,
        path: &str,
        pairs: &[(&str, &str)],
        (field, name, content): (&str, &str, &str),
    ) -> Page {
        let csrf = self.get("/accounts").await.value_of("csrf").unwrap_or_default().to_owned();
        let mut body = String::new();
        for (name, value) in pairs.iter().chain(&[("csrf", &*csrf)]) {
            let head = format!("Content-Disposition: form-data; name=\"{name}\"");
            body.push_str(&format!("--visitor\r\n{head}\r\n\r\n{value}\r\n"));
        }
        let head = format!(
            "Content-Disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream"
        );
        body.push_str(&format!("--visitor\r\n{head}\r\n\r\n{content}\r\n--visitor--\r\n"));
        let kind = "multipart/form-data; boundary=visitor";
        let fields = [("Sec-Fetch-Site", "same-origin"), ("Content-Type", kind)];
        self.send("POST", path, &fields, &body).await
    }

    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Page {
        let host = format!("127.0.0.1:{}", self.port);
        let mut stream = TcpStream::connect(&host).await.unwrap();
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        if !cookies.is_empty() {
            request.push_str(&format!("Cookie: {}\r\n", cookies.join("; ")));
        }
        for (name, value) in fields {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if method == "POST" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        request.push_str(body);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let page = Page { status, head: head.to_owned(), body: body.to_owned() };
        self.keep_cookies(&page);
        page
    }

    fn keep_cookies(&mut self, page: &Page) {
        let lines = page.head.lines().filter_map(|line| line.split_once(": "));
        for (_, value) in lines.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")) {
            let (name, rest) = value.split_once('=').unwrap();
            let content = rest.split(';').next().unwrap();
            match rest.contains("Max-Age=0") {
                true => drop(self.cookies.remove(name)),
                false => drop(self.cookies.insert(name.to_owned(), content.to_owned())),
            }
        }
    }

    pub async fn log_in(&mut self, email: &str, password: &str) -> Page {
        self.post("/login", &[("email", email), ("password", password)]).await
    }
}

/// Looks at a page until it says something.
pub async fn until_said(visitor: &mut Visitor, path: &str, said: &[&str]) {
    let began = std::time::Instant::now();
    loop {
        let page = visitor.get(path).await;
        if said.iter().all(|said| page.has(said)) {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{path} never says {said:?}: {}",
            page.body
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the pages make is known to the proxy within a second.
pub async fn until_known(house: &House, credentials: &str) {
    crate::house::until("the caller is known", Duration::from_secs(5), async || {
        let authority = format!("{}:443", crate::site::API);
        crate::client::connect(&house.site, &authority, credentials).await.1.status == 200
    })
    .await;
}

/// A link's token, as the terminal or a page makes it.
pub async fn invite(
    house: &House,
    kind: InvitationKind,
    email: Option<&str>,
    role: Role,
) -> String {
    let token = countersign::random::token("", 32).unwrap().expose().to_owned();
    let details = InvitationDetails {
        kind,
        email: email.map(str::to_owned),
        role,
        member: None,
        invited_by: None,
        expires_at: SystemTime::now() + Duration::from_secs(3600),
    };
    let digest = TokenDigest::of(token.as_bytes());
    house.shop.vault().create_invitation(digest, &details).await.unwrap();
    token
}

/// The first owner's link, once the terminal shows it.
pub async fn first_link(house: &House) -> String {
    until("the terminal shows the link", Duration::from_secs(10), async || {
        house.site.log().contains("/welcome?token=")
    })
    .await;
    let log = house.site.log();
    log.split_whitespace().find(|word| word.contains("/welcome?token=")).unwrap().to_owned()
}

/// A member who is logged in.
pub async fn member(house: &House, email: &str, role: Role) -> (Visitor, Member) {
    let token = invite(house, InvitationKind::Invite, Some(email), role).await;
    let mut visitor = Visitor::new(house);
    let name = email.split('@').next().unwrap();
    let pairs = [("token", &*token), ("name", name), ("password", PASSWORD), ("again", PASSWORD)];
    let page = visitor.post("/invitation", &pairs).await;
    assert_eq!((page.status, page.location()), (303, "/accounts"), "{}", page.body);
    let member = house.shop.vault().member_by_email(email).await.unwrap().unwrap();
    (visitor, member)
}

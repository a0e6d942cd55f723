//! An API that takes what its provider says is live, and remembers what it was sent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt as _;

use crate::origin::{self, Seen, Stream, drain_body};
use crate::pki::Ca;
use crate::provider::Provider;
use crate::site::{API, KEY};

/// The API whose accounts are keys.
pub const KEY_API: &str = "api.vendor.test";

#[derive(Clone)]
pub struct Api {
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    uses: Mutex<Vec<Use>>,
    refuses_all: AtomicBool,
    /// The status line and challenge of a refusal, if it is not a plain 401.
    refusal: Mutex<Option<(&'static str, &'static str)>>,
}

/// One request as the API saw it.
#[derive(Clone, Debug)]
pub struct Use {
    pub token: String,
    pub status: u16,
    pub head: String,
}

impl Api {
    pub async fn start(ca: &Ca, provider: &Provider) -> Self {
        let state = Arc::<State>::default();
        let (kept, provider) = (state.clone(), provider.clone());
        let tls = ca.server(&[API, KEY_API]);
        let origin = origin::start(tls, move |stream, seen| {
            let (state, provider) = (kept.clone(), provider.clone());
            async move { serve(stream, &seen, &state, &provider).await }
        })
        .await;
        Self { address: origin.address, state }
    }

    pub fn uses(&self) -> Vec<Use> {
        self.state.uses.lock().unwrap().clone()
    }

    /// How many requests were answered with `status`.
    pub fn answered(&self, status: u16) -> usize {
        self.uses().iter().filter(|used| used.status == status).count()
    }

    /// The tokens in the order in which they were first seen.
    pub fn tokens(&self) -> Vec<String> {
        let mut tokens = Vec::new();
        for used in self.uses() {
            if !tokens.contains(&used.token) {
                tokens.push(used.token);
            }
        }
        tokens
    }

    pub fn refuse_with(&self, status: &'static str, challenge: &'static str) {
        *self.state.refusal.lock().unwrap() = Some((status, challenge));
    }

    /// 401 for every token, however fresh.
    pub fn refuse_all(&self, refuses: bool) {
        self.state.refuses_all.store(refuses, Ordering::Relaxed);
    }
}

impl State {
    fn refusal(&self) -> (&'static str, &'static str) {
        self.refusal.lock().unwrap().unwrap_or(("401 Unauthorized", "Bearer"))
    }
}

async fn serve(mut stream: Stream, seen: &Seen, state: &State, provider: &Provider) {
    while let Some(head) = seen.request(&mut stream).await {
        drain_body(&mut stream, &head).await;
        let used = judge(&head, state, provider);
        let (status, challenge) = state.refusal();
        let answer = match used.status {
            200 => content(&used),
            _ => format!(
                "HTTP/1.1 {status}\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 2\r\n\r\nno"
            )
            .into_bytes(),
        };
        state.uses.lock().unwrap().push(used);
        if stream.write_all(&answer).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// The smallest PNG there is.
pub const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\x9cc\xf8\xff\xff?\0\x05\xfe\x02\xfe\r\xefF\xb8\0\0\0\0IEND\xaeB`\x82";

/// What the paths of the API answer; those of no meaning, that it works.
fn content(used: &Use) -> Vec<u8> {
    let path = used.head.split(' ').nth(1).unwrap_or_default();
    let (kind, body): (&str, Vec<u8>) = match path.split('?').next().unwrap_or_default() {
        "/json" => {
            ("application/json", br#"{"z": 12345678901234567890, "items": [{"a": "<b>"}]}"#.into())
        }
        "/html" => ("text/html", b"<script>alert('origin')</script><h1>Hello</h1>".into()),
        "/svg" => ("image/svg+xml", b"<svg onload=\"alert(1)\"></svg>".into()),
        "/fake.png" => ("image/png", b"<script>alert('png')</script>".into()),
        "/png" => ("image/png", PNG.into()),
        "/zip" => ("application/zip", b"PK\x03\x04\0\0\0\0".into()),
        "/echo" => ("text/plain", used.token.clone().into_bytes()),
        "/big" => ("text/plain", vec![b'x'; 3 * 1024 * 1024]),
        "/moved" => {
            return b"HTTP/1.1 302 Found\r\nLocation: /json\r\nContent-Length: 0\r\n\r\n".into();
        }
        "/redirect" => {
            return b"HTTP/1.1 302 Found\r\nLocation: https://evil.test/steal\r\nContent-Length: 0\r\n\r\n".into();
        }
        _ => return b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nit works".into(),
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

fn judge(head: &str, state: &State, provider: &Provider) -> Use {
    let field = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    };
    let token = field("authorization").unwrap_or_default().trim_start_matches("Bearer ").to_owned();
    let live = match field("host") {
        Some(KEY_API) => token == KEY,
        _ => provider.accepts(&token),
    };
    let refusal = state.refusal().0[..3].parse().unwrap();
    let status = if live && !state.refuses_all.load(Ordering::Relaxed) { 200 } else { refusal };

    Use { token, status, head: head.to_owned() }
}

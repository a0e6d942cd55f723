//! The port on this machine to which a provider sends the browser back (RFC 8252 §7.3): it takes
//! one callback, shows how it ended, and is gone.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::end_page;
use crate::secret::Secret;

const PATH: &str = "/callback";
/// A provider's callback with its longest code.
const MAX_HEAD_BYTES: usize = 32 * 1024;
const READ_PATIENCE: Duration = Duration::from_secs(5);

pub struct Loopback {
    listener: TcpListener,
    address: SocketAddr,
}

/// A callback with the right state; the browser waits for a page.
pub struct Arrived {
    pub params: BTreeMap<String, String>,
    stream: TcpStream,
}

impl Loopback {
    pub async fn bind(port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.with_context(|| {
            format!(
                "port {port} of this machine, where the browser comes back to, is taken; name \
                 another with --port, and register its redirect URI"
            )
        })?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    pub fn redirect_uri(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.address.port())
    }

    /// The first callback that brings `state`. Whatever else comes is answered with an error and
    /// changes nothing: any page can send the browser here.
    ///
    /// # Errors
    /// When nobody comes in time.
    pub async fn wait(
        self,
        state_name: &str,
        state: &Secret,
        patience: Duration,
    ) -> anyhow::Result<Arrived> {
        let waited = tokio::time::timeout(patience, async {
            loop {
                let (stream, _) = self.listener.accept().await?;
                let looked =
                    tokio::time::timeout(READ_PATIENCE, self.look(stream, state_name, state));
                if let Ok(Ok(Some(arrived))) = looked.await {
                    return Ok::<_, std::io::Error>(arrived);
                }
            }
        });
        match waited.await {
            Ok(arrived) => Ok(arrived?),
            Err(_) => bail!("nobody came back from the provider within 10 minutes; try again"),
        }
    }

    async fn look(
        &self,
        mut stream: TcpStream,
        state_name: &str,
        state: &Secret,
    ) -> std::io::Result<Option<Arrived>> {
        let head = read_head(&mut stream).await?;
        let Some(params) = self.callback(&head) else {
            answer(&mut stream, "404 Not Found", "Not found", "Nothing is here.").await?;
            return Ok(None);
        };
        let given = params.get(state_name).map(|given| Secret::from(given.clone()));
        if !given.is_some_and(|given| given.same_as(state)) {
            let text = "This page was not opened by the connection that is under way. Nothing was \
                        connected.";
            answer(&mut stream, "400 Bad Request", "Not connected", text).await?;
            return Ok(None);
        }
        Ok(Some(Arrived { params, stream }))
    }

    /// The parameters of `GET /callback?…`, asked of this machine by name: another name that leads
    /// here is somebody else's page (DNS rebinding).
    fn callback(&self, head: &str) -> Option<BTreeMap<String, String>> {
        let mut lines = head.split("\r\n");
        let target = lines.next()?.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?;
        let host = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("host").then(|| value.trim())
        })?;
        let port = self.address.port();
        let ours = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
        if !ours.iter().any(|ours| host.eq_ignore_ascii_case(ours)) {
            return None;
        }
        let url = Url::parse("http://127.0.0.1").ok()?.join(target).ok()?;
        let at_home = url.host_str() == Some("127.0.0.1") && url.path() == PATH;
        at_home.then(|| url.query_pairs().into_owned().collect())
    }
}

impl Arrived {
    pub async fn succeed(mut self, app: &str, account: &str) {
        let text = format!("{app} is connected as {account}. You may close this page.");
        let _ = answer(&mut self.stream, "200 OK", "Connected", &text).await;
    }

    pub async fn fail(mut self, app: &str, why: &str) {
        let text = format!("{app} was not connected: {why}");
        let _ = answer(&mut self.stream, "400 Bad Request", "Not connected", &text).await;
    }
}

async fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD_BYTES {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// The page takes the code out of the address bar, and loads nothing from anywhere.
async fn answer(
    stream: &mut TcpStream,
    status: &str,
    title: &str,
    text: &str,
) -> std::io::Result<()> {
    let (page, policy) = end_page::render(title, text);
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nreferrer-policy: no-referrer\r\nx-content-type-options: nosniff\r\n\
         content-security-policy: {policy}\r\nconnection: close\r\n\r\n",
        page.len(),
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(page.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(address: SocketAddr, target: &str, host: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("loopback");
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut said = String::new();
        stream.read_to_string(&mut said).await.expect("an answer");
        said
    }

    #[tokio::test]
    async fn only_the_callback_that_was_asked_for_counts() {
        let loopback = Loopback::bind(0).await.expect("a port");
        let address = loopback.address;
        let own = address.to_string();
        let state = Secret::from("the-state".to_owned());
        let waiting = tokio::spawn(async move {
            let arrived =
                loopback.wait("state", &state, Duration::from_secs(5)).await.expect("came");
            let code = arrived.params["code"].clone();
            arrived.fail("App", "<script>alert(1)</script>\r\nX: y").await;
            code
        });
        for (target, host, status) in [
            ("/", &own[..], "404"),
            ("/callback?state=other&code=x", &own[..], "400"),
            ("/callback?code=x", &own[..], "400"),
            ("/callback?state=the-state&code=x", "evil.test", "404"),
            ("http://evil.test/callback?state=the-state&code=x", &own[..], "404"),
        ] {
            let said = get(address, target, host).await;
            assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{target} {host}: {said}");
        }
        let said = get(address, "/callback?state=the-state&code=c%20d", &own).await;
        assert!(said.contains("&lt;script&gt;alert(1)") && !said.contains("\nX: y"), "{said}");
        assert!(said.contains("referrer-policy: no-referrer"), "{said}");
        assert_eq!(waiting.await.expect("ended"), "c d");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let first = Loopback::bind(0).await.expect("a port");
        let error = Loopback::bind(first.address.port()).await.err().expect("taken").to_string();
        assert!(error.contains("--port"), "{error}");
    }
}

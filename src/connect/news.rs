//! Telling the product what came of a connect token: a webhook to where the token says, and where the
//! browser may be sent back to.

use serde_json::{Value, json};
use url::Url;

use super::{Connector, Visit};
use crate::secret::Secret;
use crate::vault::TOKEN_MARK;

/// What came of it.
pub enum News<'a> {
    /// As the API shows the account, without credentials.
    Connected(&'a Value),
    Failed(&'a str),
}

impl Connector {
    /// Queues the webhook that the token asks for, if it asks for one.
    pub async fn tell(&self, visit: &Visit, token: &Secret, news: News<'_>) {
        let Some(url) = &visit.token.details.webhook_uri else { return };
        let (event, body) = body(visit, &news);
        let body = body.to_string();
        let queued = self.keeper.vault().queue_webhook(url, event, &body, Some(token)).await;
        if let Err(error) = queued {
            tracing::error!(%error, event, "a webhook could not be queued");
        }
    }
}

/// The session's id has more digits than a JavaScript number holds, so it is there as text, too.
fn body(visit: &Visit, news: &News<'_>) -> (&'static str, Value) {
    let mut body = json!({
        "connect_token": TOKEN_MARK,
        "environment": visit.user.environment.to_string(),
        "connect_session_id": visit.token.session_id,
        "connect_session_id_text": visit.token.session_id.to_string(),
    });
    let event = match news {
        News::Connected(account) => {
            body["account"] = (*account).clone();
            "CONNECTION_SUCCESS"
        }
        News::Failed(why) => {
            body["error"] = (*why).into();
            "CONNECTION_ERROR"
        }
    };
    body["event"] = event.into();
    (event, body)
}

const MAX_URI_BYTES: usize = 2000;

/// An absolute URL that every reader reads in the same way: `//evil`, `/\\evil`, `javascript:` and
/// `https://ok@evil` are none. Looked at when a token is made and again when a browser is sent there.
pub fn return_address(text: &str) -> Option<&str> {
    let plain = text.len() <= MAX_URI_BYTES
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'"' | b'<' | b'>'));
    let url = Url::parse(text).ok().filter(|_| plain)?;
    let spelled = text.starts_with("https://") || text.starts_with("http://");
    let bare = url.username().is_empty() && url.password().is_none() && !text.contains('@');
    let safe = url.scheme() == "https" || is_this_machine(&url);
    (spelled && bare && safe).then_some(text)
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_urls_are_return_addresses() {
        for (text, good) in [
            ("https://app.example.com/done?x=1", true),
            ("http://localhost:3000/ok", true),
            ("http://127.0.0.1/ok", true),
            ("http://app.example.com/", false),
            ("//evil.test", false),
            ("/\\evil.test", false),
            ("https:/\\evil.test", false),
            ("https:evil.test", false),
            ("javascript:alert(1)", false),
            ("data:text/html,x", false),
            ("https://ok.test@evil.test/", false),
            ("https://ok.test:x@evil.test/", false),
            ("https://ok.test\\@evil.test/", false),
            ("https://ok.test/\u{202e}", false),
            ("https://ok.test/\r\nx: y", false),
            ("", false),
        ] {
            assert_eq!(return_address(text).is_some(), good, "{text:?}");
        }
    }
}

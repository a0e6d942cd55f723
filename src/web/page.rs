//! A small page: a heading, a sentence, perhaps a button. It loads nothing from anywhere, and every
//! text in it is escaped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::forward::Body;

pub struct Page {
    title: String,
    body: String,
    script: &'static str,
}

impl Page {
    pub fn new(title: &str) -> Self {
        Self { title: escape(title), body: String::new(), script: "" }
    }

    pub fn text(mut self, text: &str) -> Self {
        self.body.push_str(&format!("<p>{}</p>", escape(text)));
        self
    }

    /// A form that leads to `action` with one value.
    pub fn button(mut self, action: &str, name: &str, value: &str, label: &str) -> Self {
        let (action, name, value) = (escape(action), escape(name), escape(value));
        self.body.push_str(&format!(
            "<form action=\"{action}\"><input type=\"hidden\" name=\"{name}\" value=\"{value}\">\
             <button>{}</button></form>",
            escape(label)
        ));
        self
    }

    /// Takes a code or state out of the address bar, and so out of the history.
    pub fn clean_address(mut self) -> Self {
        self.script = "history.replaceState(null,'','/')";
        self
    }

    /// The page, and the content security policy that it needs.
    pub fn render(self) -> (String, String) {
        let Self { title, body, script } = self;
        let text = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
             <style>{STYLE}</style></head><body><main><h1>{title}</h1>{body}</main>\
             <script>{script}</script></body></html>"
        );
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; form-action 'self' \
             https: http://127.0.0.1:*; frame-ancestors 'none'; base-uri 'none'",
            hash(STYLE),
            hash(script)
        );
        (text, policy)
    }

    pub fn answer(self, status: StatusCode) -> Response<Body> {
        let (text, policy) = self.render();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        response
    }
}

/// How a content security policy names what stands in the page itself.
fn hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_control()).take(2000) {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#fff;color:#1a1a1a}\
main{max-width:34rem;margin:14vh auto;padding:0 1.5rem}h1{font-size:1.5rem}\
button{font:inherit;padding:.6rem 1.4rem;border:0;border-radius:.4rem;background:#1f5eff;color:#fff;\
cursor:pointer}button:focus-visible{outline:3px solid #9db8ff}\
@media(prefers-color-scheme:dark){body{background:#16181d;color:#e8e8e8}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_page_is_told_is_text() {
        let hostile = "\"><script>alert(1)</script>'\u{1b}";
        let page = Page::new(hostile).text(hostile).button("start", "ticket", hostile, hostile);
        assert!(!page.body.contains("<script") && !page.title.contains('<'), "{}", page.body);
        assert!(!page.body.contains("'\u{1b}") && !page.body.contains("=\"\">"), "{}", page.body);
    }
}

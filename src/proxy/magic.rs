//! `http://countersign.internal/`, answered by the proxy itself: who you are, what you may use, and
//! the CA with the steps to trust it.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use http::{HeaderName, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::ca::CertificateAuthority;
use crate::forward::{Body, Identity, SOURCE, World};
use crate::markup::escape;

pub const HOST: &str = "countersign.internal";

/// What a page is made of.
pub struct Page<'a> {
    pub world: &'a World,
    pub identity: &'a Identity,
    pub ca: &'a CertificateAuthority,
}

/// Answers one of the host's few paths.
pub fn answer(page: &Page<'_>, path: &str) -> Response<Body> {
    match path {
        "/" => html(StatusCode::OK, &page.html()),
        "/status" => typed(StatusCode::OK, "application/json", format!("{:#}\n", page.status())),
        "/ca.pem" | "/cert.pem" => certificate(page.ca),
        "/ca.der" | "/cert.cer" => certificate_der(page.ca),
        _ => html(StatusCode::NOT_FOUND, &document("Not found", NOT_FOUND)),
    }
}

/// The CA's certificate is no secret; it is what clients are to trust.
pub fn certificate(ca: &CertificateAuthority) -> Response<Body> {
    let mut response = typed(StatusCode::OK, "application/x-pem-file", ca.pem().to_owned());
    let name = HeaderValue::from_static("attachment; filename=\"countersign-ca.pem\"");
    response.headers_mut().insert(CONTENT_DISPOSITION, name);
    response
}

fn certificate_der(ca: &CertificateAuthority) -> Response<Body> {
    let der = bytes::Bytes::copy_from_slice(ca.certificate());
    let mut response = typed(StatusCode::OK, "application/x-x509-ca-cert", String::new());
    let name = HeaderValue::from_static("attachment; filename=\"countersign-ca.cer\"");
    response.headers_mut().insert(CONTENT_DISPOSITION, name);
    response.map(|_| Body::from(der))
}

/// What somebody is told who opens the proxy's port as if it were a web server.
pub fn spoken_to_directly() -> Response<Body> {
    html(StatusCode::BAD_REQUEST, &document("You are not going through countersign", DIRECT))
}

/// What the web listener says at `/`.
pub fn landing() -> Response<Body> {
    html(StatusCode::OK, &document("You are not going through countersign", DIRECT))
}

impl Page<'_> {
    fn status(&self) -> Value {
        let caller = &self.identity.caller;
        let accounts = caller.policy.bindings.iter().map(|binding| {
            json!({
                "account": binding.account,
                "id": binding.id,
                "app": binding.app,
                "default": binding.default,
                "hosts": binding.hosts.iter().map(|(host, port)| match port {
                    443 => host.to_string(),
                    port => format!("{host}:{port}"),
                }).chain(binding.open.iter().map(ToString::to_string)).collect::<Vec<_>>(),
            })
        });
        json!({
            "through_countersign": true,
            "version": env!("CARGO_PKG_VERSION"),
            "caller": caller.id,
            "accounts": accounts.collect::<Vec<_>>(),
            "rules": caller.policy.rules.len(),
            "ca": { "sha256": self.ca.fingerprint(), "download": "/ca.pem" },
        })
    }

    fn html(&self) -> String {
        let caller = &self.identity.caller;
        let mut rows = String::new();
        for binding in &caller.policy.bindings {
            let name = self.world.app(binding.app.as_str()).map_or("", |app| app.name.as_str());
            let hosts: Vec<String> = binding
                .hosts
                .iter()
                .map(|(host, _)| host.to_string())
                .chain(binding.open.iter().map(ToString::to_string))
                .map(|host| format!("<code>{}</code>", escape(&host)))
                .collect();
            rows.push_str(&format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(name),
                escape(binding.account.as_str()),
                hosts.join("<br>")
            ));
        }
        let accounts = match rows.is_empty() {
            true => "<p>No account is bound to this caller yet. Add one under \
                     <code>[callers.&lt;name&gt;] accounts</code>.</p>"
                .to_owned(),
            false => {
                format!("<table><tr><th>App</th><th>Account</th><th>Hosts</th></tr>{rows}</table>")
            }
        };
        let body = format!(
            "<p class=ok>You are going through countersign as <strong>{}</strong>.</p>\
             <h2>What you may use</h2>{accounts}\
             <h2>Trust the CA</h2><p>SHA-256 <code class=print>{}</code></p>{STEPS}",
            escape(caller.id.as_str()),
            self.ca.fingerprint(),
        );
        document("countersign", &body)
    }
}

const NOT_FOUND: &str = "<p>Here are <a href=\"/\">/</a>, <a href=\"/status\">/status</a> and \
                         <a href=\"/ca.pem\">/ca.pem</a>.</p>";

const DIRECT: &str = "<p>This is countersign itself, and this request came to it directly. Programs use it as \
     their proxy:</p><pre>export HTTP_PROXY=http://&lt;caller&gt;:&lt;token&gt;@127.0.0.1:3128\n\
     export HTTPS_PROXY=$HTTP_PROXY</pre><p>or, with everything set for you, \
     <code>countersign run -- your-program</code>. Then \
     <code>http://countersign.internal/</code> says who you are.</p>";

const STEPS: &str = "<p><a href=\"/ca.pem\">countersign-ca.pem</a> · \
     <a href=\"/ca.der\">countersign-ca.cer</a></p><dl>\
     <dt>One program</dt><dd><code>countersign run -- your-program</code> trusts it for that program alone.</dd>\
     <dt>Debian, Ubuntu</dt><dd><code>sudo cp countersign-ca.pem /usr/local/share/ca-certificates/countersign.crt &amp;&amp; sudo update-ca-certificates</code></dd>\
     <dt>Fedora, RHEL</dt><dd><code>sudo cp countersign-ca.pem /etc/pki/ca-trust/source/anchors/ &amp;&amp; sudo update-ca-trust</code></dd>\
     <dt>macOS</dt><dd><code>sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain countersign-ca.pem</code></dd>\
     <dt>Windows</dt><dd><code>certutil -addstore -user Root countersign-ca.cer</code></dd>\
     <dt>Python, Node, Java, …</dt><dd><code>eval \"$(countersign env)\"</code> sets the variables that each of them reads.</dd></dl>";

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style><main><h1>{title}</h1>{body}</main></html>\n"
    )
}

const STYLE: &str = ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;margin:0}\
     main{max-width:46rem;margin:3rem auto;padding:0 1rem}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}\
     code,pre{font:.875em/1.5 ui-monospace,monospace;overflow-wrap:anywhere}pre{padding:1rem;overflow:auto;\
     border:1px solid color-mix(in srgb,currentColor 20%,transparent);border-radius:8px}\
     table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.5rem;vertical-align:top;\
     border-bottom:1px solid color-mix(in srgb,currentColor 15%,transparent)}dt{font-weight:600;margin-top:1rem}dd{margin:0}\
     .ok{padding:.75rem 1rem;border-radius:8px;background:color-mix(in srgb,green 14%,transparent)}";

/// The style is inline and named by its digest; nothing else may load or run.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = STANDARD.encode(Sha256::digest(STYLE));
    let text = format!(
        "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&text).expect("base64 is visible ASCII")
});

fn html(status: StatusCode, text: &str) -> Response<Body> {
    const CSP: HeaderName = HeaderName::from_static("content-security-policy");
    let mut response = typed(status, "text/html; charset=utf-8", text.to_owned());
    response.headers_mut().insert(CSP, POLICY.clone());
    response
}

fn typed(status: StatusCode, media_type: &'static str, text: String) -> Response<Body> {
    const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    headers.insert(SOURCE, HeaderValue::from_static("proxy"));
    response
}

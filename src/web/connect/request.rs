//! A request to the connect pages, read whole and bounded.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use url::form_urlencoded;

use crate::forward::Body;
use crate::web::browser;
use crate::web::html::{Message, Policy};

/// Codes are far shorter.
const MAX_QUERY_BYTES: usize = 16 * 1024;
/// Certificates and their keys.
const MAX_FORM_BYTES: usize = 128 * 1024;

pub struct Asking {
    pub client: IpAddr,
    pub head: Parts,
    /// Of the query, or of the form.
    pub pairs: BTreeMap<String, String>,
}

impl Asking {
    /// # Errors
    /// The answer to what cannot be read.
    pub async fn read(client: IpAddr, request: Request<Incoming>) -> Result<Self, Response<Body>> {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let text = match head.method {
            Method::GET => query,
            Method::POST => form(&head.headers, body).await.ok_or_else(nothing_here)?,
            _ => return Err(nothing_here()),
        };
        if head.method == Method::GET && text.len() > MAX_QUERY_BYTES {
            return Err(nothing_here());
        }
        let pairs = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        Ok(Self { client, head, pairs })
    }

    pub fn host(&self) -> Option<&str> {
        self.head.headers.get(HOST)?.to_str().ok()
    }
}

async fn form(headers: &HeaderMap, body: Incoming) -> Option<String> {
    let read = browser::form(headers, body, MAX_FORM_BYTES).await.ok()?;
    String::from_utf8(read.into()).ok()
}

pub fn nothing_here() -> Response<Body> {
    let page =
        Message { title: "Not found", text: "Nothing is here.", button: None, clean_address: true };
    page.answer(StatusCode::NOT_FOUND, &Policy::default())
}

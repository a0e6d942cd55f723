//! What may not pass from one connection to the next, and what a head must be to be forwarded.
//!
//! Stripping runs on what the client sent, before anything is attached: the other order let
//! `Connection: authorization` remove the proxy's own credential (Apache CVE-2022-31813).
//! RFC 9110 §7.6.1, RFC 9112 §6.1, §3.2.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::request::Parts;
use http::{Method, Version};

use super::refusal::Refusal;

const ALT_SVC: HeaderName = HeaderName::from_static("alt-svc");

/// Names an account for this one request; never forwarded.
pub const ACCOUNT: HeaderName = HeaderName::from_static("countersign-account");
/// Says who made an answer: `proxy` or `upstream`.
pub const SOURCE: HeaderName = HeaderName::from_static("x-countersign-source");

/// The longest registered method has 17 letters (`UPDATEREDIRECTREF`). What is longer fills logs.
const MAX_METHOD_BYTES: usize = 64;

/// The fields that decide how a request is read. Most requests have nearly none of them, so one
/// walk over the head is cheaper than a search for each.
#[derive(Default)]
pub struct Marks {
    hosts: usize,
    lengths: usize,
    transfer_encoding: bool,
    expect: bool,
    pub via: bool,
}

impl Marks {
    fn of(headers: &HeaderMap) -> Self {
        let mut marks = Self::default();
        for name in headers.iter().map(|(name, _)| name) {
            marks.hosts += usize::from(name == HOST);
            marks.lengths += usize::from(name == CONTENT_LENGTH);
            marks.transfer_encoding |= name == TRANSFER_ENCODING;
            marks.expect |= name == EXPECT;
            marks.via |= name == VIA;
        }
        marks
    }
}

/// Refuses what hyper lets through and two parsers could read in two ways.
pub fn check(parts: &Parts) -> Result<Marks, Refusal> {
    let headers = &parts.headers;
    let marks = Marks::of(headers);
    if parts.method.as_str().len() > MAX_METHOD_BYTES {
        return Err(Refusal::Malformed("the method is longer than any that exists"));
    }
    check_path(parts)?;
    if marks.transfer_encoding && parts.version < Version::HTTP_2 {
        check_transfer_encoding(headers, parts.version)?;
    }
    if marks.lengths > 1 {
        return Err(Refusal::Malformed("more than one Content-Length"));
    }
    if marks.hosts > 1 {
        return Err(Refusal::Malformed("more than one Host"));
    }
    if marks.expect
        && let Some(expect) = headers.get(EXPECT)
        && !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Refusal::ExpectationFailed);
    }
    Ok(marks)
}

/// HTTP/2 takes anything for `:path`, and `*` is for OPTIONS alone (RFC 9110 §7.1, RFC 9113 §8.3.1).
fn check_path(parts: &Parts) -> Result<(), Refusal> {
    let path = parts.uri.path();
    let fits = match path {
        "*" => parts.method == Method::OPTIONS,
        _ => path.is_empty() || path.starts_with('/'),
    };
    if fits { Ok(()) } else { Err(Refusal::Malformed("the path does not begin with /")) }
}

/// One `chunked` and nothing else: every other spelling has smuggled requests somewhere.
fn check_transfer_encoding(headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if version < Version::HTTP_11 {
        return Err(Refusal::Malformed("Transfer-Encoding in HTTP/1.0"));
    }
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Refusal::Malformed("Transfer-Encoding other than \"chunked\""));
    }
    Ok(())
}

/// What a request asked its connection to become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    Request,
    WebSocket,
}

/// Removes what belongs to the client's connection or to us. Says whether a WebSocket was asked.
pub fn strip_request(parts: &mut Parts) -> Wish {
    // Nearly every request has this one, and nearly none another of ours.
    parts.headers.remove(PROXY_AUTHORIZATION);
    let found = Removable::of(&parts.headers);
    if found.ours {
        strip_ours(&mut parts.headers);
    }
    if !found.hop_by_hop {
        return Wish::Request;
    }
    let wish = wish_of(parts);
    let grpc = parts.headers.get(TE).is_some_and(mentions_trailers);
    strip_hop_by_hop(&mut parts.headers);
    if grpc {
        parts.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if wish == Wish::WebSocket {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    wish
}

/// Only `websocket` survives: `h2c` would open a connection that nobody inspects.
fn wish_of(parts: &Parts) -> Wish {
    let asked = parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && parts
            .headers
            .get(UPGRADE)
            .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && connection_tokens(&parts.headers).any(|token| token.eq_ignore_ascii_case("upgrade"));
    if asked { Wish::WebSocket } else { Wish::Request }
}

/// RFC 9110 §7.6.3. Only towards a parent proxy, where it cuts loops: proxies that trust each
/// other's CA would open each other's tunnels for ever. An origin is told nothing of us.
pub fn add_via(parts: &mut Parts, pseudonym: &str) {
    let received = if parts.version == Version::HTTP_2 { "2" } else { "1.1" };
    if let Ok(value) = HeaderValue::from_str(&format!("{received} {pseudonym}")) {
        parts.headers.append(VIA, value);
    }
}

fn mentions_trailers(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|text| {
        text.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
    })
}

/// Removes from an answer what belongs to the origin's connection, would make a client give up its
/// token (`Proxy-Authenticate`), or would lead it around us (`Alt-Svc`).
pub fn strip_response(headers: &mut HeaderMap) {
    let found = Removable::of(headers);
    if found.hop_by_hop {
        strip_hop_by_hop(headers);
    }
    if found.alt_svc {
        headers.remove(ALT_SVC);
    }
    if found.ours {
        strip_ours(headers);
    }
}

/// What a message has that must go. Nearly every one has nothing of it: one walk over its names is
/// cheaper than a search for each.
#[derive(Default)]
struct Removable {
    hop_by_hop: bool,
    alt_svc: bool,
    ours: bool,
}

impl Removable {
    fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for name in headers.keys() {
            found.alt_svc |= name == ALT_SVC;
            found.hop_by_hop |= name == CONNECTION;
            let name = name.as_str();
            found.hop_by_hop |= HOP_BY_HOP.contains(&name);
            found.ours |= is_ours(name);
        }
        found
    }
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let listed: Vec<HeaderName> = connection_tokens(headers)
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            .filter(|name| !is_end_to_end(name))
            .collect();
        for name in listed {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Beside `Connection` and what it lists.
const HOP_BY_HOP: [&str; 7] = [
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Fields that frame or address a message keep doing so, whatever `Connection` says of them.
fn is_end_to_end(name: &HeaderName) -> bool {
    name == HOST || name == CONTENT_LENGTH
}

fn connection_tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// `Proxy-*` is between a client and us; `countersign-*` is ours, and an origin that sent one could
/// pass for us.
fn is_ours(name: &str) -> bool {
    // The first letter says no to nearly all.
    match name.as_bytes().first() {
        Some(b'p') => name.starts_with("proxy-"),
        Some(b'c') => name.starts_with("countersign-"),
        Some(b'x') => name.starts_with("x-countersign-"),
        _ => false,
    }
}

fn strip_ours(headers: &mut HeaderMap) {
    let found: Vec<HeaderName> =
        headers.keys().filter(|name| is_ours(name.as_str())).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(version: Version, fields: &[(&'static str, &'static str)]) -> Parts {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.version = version;
        for (name, value) in fields {
            parts.headers.append(*name, HeaderValue::from_static(value));
        }
        parts
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        for (fields, accepted) in [
            (&[("transfer-encoding", "chunked")][..], true),
            (&[("transfer-encoding", "Chunked")], true),
            (&[("transfer-encoding", "xchunked")], false),
            (&[("transfer-encoding", "chunked, identity")], false),
            (&[("transfer-encoding", "\"chunked\"")], false),
            (&[("transfer-encoding", "")], false),
            (&[("transfer-encoding", "identity"), ("transfer-encoding", "chunked")], false),
            (&[("content-length", "5"), ("content-length", "5")], false),
            (&[("host", "a"), ("host", "a")], false),
            (&[("expect", "100-Continue")], true),
            (&[("expect", "y 100-continue")], false),
        ] {
            assert_eq!(check(&parts(Version::HTTP_11, fields)).is_ok(), accepted, "{fields:?}");
        }
        let old = parts(Version::HTTP_10, &[("transfer-encoding", "chunked")]);
        assert!(check(&old).is_err());
    }

    #[test]
    fn hop_by_hop_fields_and_ours_go_and_the_rest_stays() {
        let mut parts = parts(
            Version::HTTP_11,
            &[
                ("connection", "keep-alive, X-Foo, Host, Content-Length"),
                ("x-foo", "1"),
                ("host", "a"),
                ("content-length", "3"),
                ("keep-alive", "5"),
                ("te", "trailers, deflate"),
                ("trailer", "x"),
                ("proxy-connection", "keep-alive"),
                ("proxy-authorization", "Basic x"),
                ("countersign-account", "a"),
                ("x-countersign-source", "proxy"),
                ("upgrade", "h2c"),
                ("http2-settings", "x"),
                ("accept", "*/*"),
            ],
        );
        assert_eq!(strip_request(&mut parts), Wish::Request);
        let mut left: Vec<&str> = parts.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "content-length", "host", "te"]);
        assert_eq!(parts.headers[TE], "trailers");
    }

    #[test]
    fn only_a_websocket_may_be_asked_for() {
        let mut asked = parts(
            Version::HTTP_11,
            &[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")],
        );
        assert_eq!(strip_request(&mut asked), Wish::WebSocket);
        assert_eq!(asked.headers[CONNECTION], "Upgrade");
        let mut other = parts(Version::HTTP_11, &[("connection", "upgrade"), ("upgrade", "h2c")]);
        assert_eq!(strip_request(&mut other), Wish::Request);
        assert!(other.headers.is_empty());
    }
}

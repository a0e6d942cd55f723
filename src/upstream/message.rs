//! What a message must look like on its connection, whatever it looked like before.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;

use super::body::RequestBody;

/// The fields of a request that are its connection's business. Most requests have one of them: one
/// walk over the head is cheaper than a search for each.
#[derive(Clone, Copy, Default)]
pub(super) struct Asked {
    pub(super) upgrade: bool,
    host: bool,
    framing: bool,
}

impl Asked {
    pub(super) fn of(request: &Request<RequestBody>) -> Self {
        let mut asked = Self::default();
        for name in request.headers().keys() {
            asked.upgrade |= name == UPGRADE;
            asked.host |= name == HOST;
            asked.framing |= name == CONTENT_LENGTH || name == TRANSFER_ENCODING;
        }
        asked
    }
}

/// Only the body decides about the framing (RFC 9112 §6): a length or a coding that came with the
/// request is somebody else's opinion. `Content-Length: 0` says something on these methods
/// (RFC 9110 §8.6) and is kept if it was there.
fn drop_framing(request: &mut Request<RequestBody>, asked: Asked) {
    if !asked.framing {
        return;
    }
    let explicit_zero = request.body().is_empty()
        && matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    let headers = request.headers_mut();
    headers.remove(TRANSFER_ENCODING);
    if headers.remove(CONTENT_LENGTH).is_some() && explicit_zero {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// `host` is used if the request has none.
pub(super) fn prepare_http1(request: &mut Request<RequestBody>, asked: Asked, host: &HeaderValue) {
    drop_framing(request, asked);
    *request.version_mut() = Version::HTTP_11;
    // It was prepared for HTTP/2, came back unsent, and the next connection is this one.
    if request.uri().authority().is_some() {
        *request.uri_mut() = origin_form(request.uri());
    }
    // hyper would drop a GET's body of unknown length instead of sending it in chunks.
    if request.body().size_hint().exact().is_none() {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if !asked.host {
        request.headers_mut().insert(HOST, host.clone());
    }
    let gate = request.body().progress().filter(|progress| progress.awaits_continue()).cloned();
    if let Some(gate) = gate {
        hyper::ext::on_informational(request, move |answer| {
            if answer.status() == StatusCode::CONTINUE {
                gate.open_gate();
            }
        });
    }
}

/// Fields of a connection that HTTP/2 does not know (RFC 9113 §8.2.2). `Expect` goes too: flow
/// control already keeps an unwanted body small.
static NOT_IN_HTTP2: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    UPGRADE,
    HOST,
    EXPECT,
];

pub(super) fn prepare_http2(
    request: &mut Request<RequestBody>,
    asked: Asked,
    scheme: &Scheme,
    authority: &Authority,
) {
    drop_framing(request, asked);
    *request.version_mut() = Version::HTTP_2;
    for name in &NOT_IN_HTTP2 {
        request.headers_mut().remove(name);
    }
    let te = request.headers().get(TE);
    if te.is_some_and(|te| !te.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        request.headers_mut().remove(TE);
    }
    if let Some(progress) = request.body().progress() {
        progress.open_gate();
    }
    *request.uri_mut() = absolute(request.uri(), scheme, authority);
}

fn origin_form(target: &Uri) -> Uri {
    target.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from)
}

fn absolute(target: &Uri, scheme: &Scheme, authority: &Authority) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme.clone());
    parts.authority = Some(authority.clone());
    let path = target.path_and_query().cloned();
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    // All three parts are there, and that is all `from_parts` asks for.
    Uri::from_parts(parts).unwrap_or_else(|_| target.clone())
}

/// The sender of an ambiguous answer is trying to slip a second one past us, or past whoever is
/// downstream (RFC 9112 §6.3): it is not passed on. What is, carries no framing of its own but a
/// single length.
pub(super) fn check_answer<B>(
    response: &mut Response<B>,
    asked: Asked,
) -> Result<(), &'static str> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && !asked.upgrade {
        return Err("it switched protocols without being asked");
    }
    let headers = response.headers_mut();
    let (mut coded, mut lengths) = (false, Lengths::None);
    for (name, value) in headers.iter() {
        coded |= name == TRANSFER_ENCODING;
        if name == CONTENT_LENGTH {
            lengths = lengths.and(value);
        }
    }
    let repeated = match lengths {
        Lengths::Ambiguous => return Err("a Content-Length that is not one number"),
        Lengths::Repeated(length) => Some(length.clone()),
        Lengths::None | Lengths::One(_) => None,
    };
    if let Some(length) = repeated {
        headers.insert(CONTENT_LENGTH, length);
    }
    if coded {
        check_transfer_encoding(headers)?;
        headers.remove(TRANSFER_ENCODING);
    }
    Ok(())
}

/// The `Content-Length` lines of an answer. hyper has read the length where it counts; here also
/// the one of an answer without a body.
enum Lengths<'a> {
    None,
    One(&'a HeaderValue),
    /// The same number more than once.
    Repeated(&'a HeaderValue),
    Ambiguous,
}

impl<'a> Lengths<'a> {
    fn and(self, line: &'a HeaderValue) -> Self {
        match self {
            Self::None if is_a_number(line) => Self::One(line),
            Self::One(first) | Self::Repeated(first) if line == first => Self::Repeated(first),
            _ => Self::Ambiguous,
        }
    }
}

fn is_a_number(line: &HeaderValue) -> bool {
    !line.is_empty() && line.as_bytes().iter().all(u8::is_ascii_digit)
}

fn check_transfer_encoding(headers: &HeaderMap) -> Result<(), &'static str> {
    if headers.contains_key(CONTENT_LENGTH) {
        return Err("both Transfer-Encoding and Content-Length");
    }
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = lines.next().is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if chunked && lines.next().is_none() {
        return Ok(());
    }
    Err("a Transfer-Encoding other than a single chunked")
}

/// A request kept for a second try: one whose body is not streamed. Nearly none is made, so the
/// fields are a list, which is copied and dropped for less than a map.
pub(super) struct Spare {
    method: Method,
    target: Uri,
    fields: Vec<(HeaderName, HeaderValue)>,
    body: RequestBody,
    /// It changes nothing, so it may arrive twice (RFC 9110 §9.2.2).
    pub(super) harmless: bool,
}

impl Spare {
    pub(super) fn of(request: &Request<RequestBody>, asked: Asked) -> Option<Box<Self>> {
        if asked.upgrade {
            return None;
        }
        let body = request.body().again()?;
        let mut fields = Vec::with_capacity(request.headers().len());
        fields.extend(request.headers().iter().map(|(name, value)| (name.clone(), value.clone())));
        Some(Box::new(Self {
            method: request.method().clone(),
            target: request.uri().clone(),
            fields,
            body,
            harmless: is_harmless(request),
        }))
    }

    pub(super) fn request(self) -> Request<RequestBody> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.target;
        for (name, value) in self.fields {
            request.headers_mut().append(name, value);
        }
        request
    }

    /// Only of a request that may arrive twice: nobody pays for the others.
    pub(super) fn of_harmless(request: &Request<RequestBody>, asked: Asked) -> Option<Box<Self>> {
        if is_harmless(request) { Self::of(request, asked) } else { None }
    }
}

fn is_harmless(request: &Request<RequestBody>) -> bool {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    safe && request.body().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn request(method: Method, headers: &[(&'static str, &'static str)]) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = method;
        *request.uri_mut() = "/a?b=c".parse().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        request
    }

    #[test]
    fn framing_comes_from_the_body_alone() {
        let framing = [("transfer-encoding", "x"), ("transfer-encoding", "y")];
        let host = HeaderValue::from_static("a.test");
        for (method, body, length, kept) in [
            (Method::POST, "", "0", Some("0")),
            (Method::GET, "", "0", None),
            (Method::GET, "", "7", None),
            (Method::POST, "abc", "7", None),
        ] {
            let mut request = request(method, &framing);
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static(length));
            *request.body_mut() = RequestBody::full(Bytes::from_static(body.as_bytes()));
            let asked = Asked::of(&request);
            prepare_http1(&mut request, asked, &host);
            assert!(!request.headers().contains_key(TRANSFER_ENCODING));
            let left = request.headers().get(CONTENT_LENGTH).map(|value| value.to_str().unwrap());
            assert_eq!(left, kept, "{body:?} {length}");
            assert_eq!(request.headers()[HOST], "a.test");
        }
    }

    #[test]
    fn http2_gets_an_absolute_target_and_no_fields_of_a_connection() {
        let mut request = request(
            Method::GET,
            &[("host", "a.test"), ("connection", "x"), ("te", "gzip"), ("expect", "100-continue")],
        );
        let asked = Asked::of(&request);
        prepare_http2(&mut request, asked, &Scheme::HTTPS, &Authority::from_static("a.test"));
        assert_eq!(request.uri(), "https://a.test/a?b=c");
        assert!(request.headers().is_empty());
    }

    #[test]
    fn an_ambiguous_answer_is_refused() {
        for (status, headers, fine) in [
            (200, vec![("content-length", "5")], true),
            (200, vec![("transfer-encoding", "Chunked")], true),
            (200, vec![("transfer-encoding", "chunked"), ("content-length", "5")], false),
            (204, vec![("transfer-encoding", "chunked"), ("content-length", "5")], false),
            (200, vec![("transfer-encoding", "gzip, chunked")], false),
            (200, vec![("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false),
            (200, vec![("transfer-encoding", "identity")], false),
            (200, vec![("content-length", "5"), ("content-length", "5")], true),
            (304, vec![("content-length", "5"), ("content-length", "6")], false),
            (304, vec![("content-length", "5, 5")], false),
            (304, vec![("content-length", "+5")], false),
            (101, vec![], false),
        ] {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            for (name, value) in &headers {
                response.headers_mut().append(*name, HeaderValue::from_static(value));
            }
            let checked = check_answer(&mut response, Asked::default());
            assert_eq!(checked.is_ok(), fine, "{status} {headers:?}");
            assert!(!fine || response.headers().get_all(CONTENT_LENGTH).iter().count() <= 1);
            assert!(!fine || !response.headers().contains_key(TRANSFER_ENCODING));
        }
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let asked = Asked { upgrade: true, ..Asked::default() };
        assert!(check_answer(&mut response, asked).is_ok());
    }
}

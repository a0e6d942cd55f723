//! Of an API proxy call: where it wants to go, and what it sends along. Pure.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING, USER_AGENT,
};
use http::uri::PathAndQuery;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::failure::Failure;
use super::route::decoded;
use crate::forward::Target;
use crate::host::Authority;

const MAX_URL_BYTES: usize = 16 * 1024;

/// What a caller named: a whole URL, or a path below the account's own.
#[derive(Debug, PartialEq, Eq)]
pub enum Named {
    Absolute { target: Target, path: PathAndQuery },
    Relative(String),
}

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BY_STANDARD: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BY_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// What a URL may not have as it is (RFC 3986 §2), of what people type.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`');

/// Reads the last part of the path: base64 in either alphabet, with or without padding.
///
/// # Errors
/// When it is no base64 of an `http` or `https` URL or of a path.
pub fn read(url_64: &str) -> Result<Named, Failure> {
    let encoded = decoded(url_64)?;
    let by_url = encoded.bytes().any(|b| matches!(b, b'-' | b'_'));
    let engine = if by_url { BY_URL } else { BY_STANDARD };
    let bytes = engine.decode(encoded.as_bytes());
    let url = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let url = url.ok_or_else(|| Failure::bad("the URL is not base64 of UTF-8"))?;
    parse(&url)
}

/// # Errors
/// When it is neither an absolute `http` or `https` URL nor a path.
pub fn parse(url: &str) -> Result<Named, Failure> {
    if url.len() > MAX_URL_BYTES || url.chars().any(char::is_control) || url.contains('\\') {
        return Err(Failure::bad("the URL is too long, or has a character that no URL has"));
    }
    let url = url.split('#').next().unwrap_or_default();
    let encoded = utf8_percent_encode(url, ENCODED).to_string();
    if encoded.starts_with("//") {
        return Err(Failure::bad("the URL has no scheme: write https://"));
    }
    if encoded.starts_with('/') {
        return Ok(Named::Relative(encoded));
    }
    let (secure, rest) = scheme(&encoded)
        .ok_or_else(|| Failure::bad("the URL is https://…, http://…, or a path with / first"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let default_port = if secure { 443 } else { 80 };
    let Authority { host, port } = Authority::parse(authority, default_port)
        .map_err(|error| Failure::bad(format!("the URL's authority: {error}")))?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let path = path_of(&format!("{slash}{path}"))?;
    Ok(Named::Absolute { target: Target { host, port, secure }, path })
}

fn scheme(url: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    match () {
        () if scheme.eq_ignore_ascii_case("https") => Some((true, rest)),
        () if scheme.eq_ignore_ascii_case("http") => Some((false, rest)),
        () => None,
    }
}

fn path_of(text: &str) -> Result<PathAndQuery, Failure> {
    PathAndQuery::try_from(text).map_err(|_| Failure::bad("the URL's path is not valid"))
}

const PREFIX: &str = "x-pd-proxy-";

/// The fields that go to the API: those that were named with the prefix, and what says how to read
/// the body, which goes on byte for byte.
///
/// # Errors
/// When one is named that belongs to a connection, to a browser, or to us.
pub fn headers(sent: &HeaderMap) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for framing in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT] {
        if let Some(value) = sent.get(&framing) {
            headers.insert(framing, value.clone());
        }
    }
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    for (name, value) in sent {
        let Some(name) = name.as_str().strip_prefix(PREFIX) else { continue };
        if is_restricted(name) {
            return Err(Failure::bad(format!("Unsupported header: {name}")));
        }
        let name: HeaderName =
            name.parse().map_err(|_| Failure::bad("a header is named x-pd-proxy- and nothing"))?;
        headers.insert(name, value.clone());
    }
    Ok(headers)
}

/// APIs refuse requests that do not say who sends them.
const AGENT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));

fn is_restricted(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "access-control-request-headers",
        "access-control-request-method",
        "connection",
        "content-length",
        "cookie",
        "date",
        "dnt",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "max-forwards",
        "origin",
        "permissions-policy",
        "referer",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    const PREFIXES: &[&str] = &["proxy-", "sec-", "countersign-", "x-countersign-", "x-pd-"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(named: &Named) -> String {
        match named {
            Named::Relative(path) => path.clone(),
            Named::Absolute { target, path } => {
                let scheme = if target.secure { "https" } else { "http" };
                format!("{scheme}://{}:{}{path}", target.host, target.port)
            }
        }
    }

    #[test]
    fn every_alphabet_that_the_sdks_use_is_read() {
        let url = "https://api.acme.test/a%20b?page=1&tag=x~?";
        let meant = "https://api.acme.test:443/a%20b?page=1&tag=x~?";
        let standard = base64::engine::general_purpose::STANDARD.encode(url);
        let percent = standard.replace('/', "%2F").replace('=', "%3D").replace('+', "%2B");
        let by_url = base64::engine::general_purpose::URL_SAFE.encode(url);
        let bare = by_url.trim_end_matches('=').to_owned();
        for form in [standard, percent, by_url, bare] {
            assert_eq!(shown(&read(&form).expect(&form)), meant, "{form}");
        }
    }

    #[test]
    fn only_urls_of_apis_are_targets() {
        for (url, target) in [
            ("https://a.test", Some("https://a.test:443/")),
            ("HTTPS://A.test?x=1#frag", Some("https://a.test:443/?x=1")),
            ("http://a.test:8080/é b", Some("http://a.test:8080/%C3%A9%20b")),
            ("/x?y=1", Some("/x?y=1")),
            ("//evil.test/", None),
            ("/\\evil.test", None),
            ("https:\\\\evil.test", None),
            ("https://a.test@evil.test/", None),
            ("https://a.test\\@evil.test/", None),
            ("https://a.test%2eevil.test/", None),
            ("https://a.test:0443/", None),
            ("https:///x", None),
            ("file:///etc/passwd", None),
            ("gopher://a.test/", None),
            ("a.test/x", None),
            ("https://2130706433/", None),
            ("https://a.test/\r\nx: y", None),
            ("", None),
        ] {
            assert_eq!(parse(url).ok().as_ref().map(shown).as_deref(), target, "{url:?}");
        }
        for no_base64 in ["", "%", "!!", "%ff", "aHR0cHM6Ly9h?"] {
            assert!(read(no_base64).is_err(), "{no_base64}");
        }
    }

    #[test]
    fn only_what_is_named_for_the_api_goes_there() {
        let mut sent = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer ours"),
            ("x-pd-environment", "development"),
            ("x-fern-language", "JavaScript"),
            ("user-agent", "sdk"),
            ("accept-encoding", "gzip"),
            ("content-type", "application/json"),
            ("x-pd-proxy-x-custom", "1"),
            ("x-pd-proxy-accept", "text/plain"),
            ("x-pd-proxy-content-type", "text/xml"),
        ] {
            sent.insert(name, HeaderValue::from_static(value));
        }
        let mut sorted: Vec<_> = headers(&sent).expect("all may go").into_iter().collect();
        sorted.sort_by_key(|(name, _)| name.as_ref().map(|name| name.as_str().to_owned()));
        let found: Vec<String> = sorted
            .iter()
            .filter_map(|(name, value)| {
                Some(format!("{}: {}", name.as_ref()?, value.to_str().ok()?))
            })
            .collect();
        let agent = format!("user-agent: {AGENT}");
        assert_eq!(found, ["accept: text/plain", "content-type: text/xml", &agent, "x-custom: 1"]);
    }

    #[test]
    fn what_belongs_to_connections_browsers_and_us_is_refused() {
        for name in [
            "Host",
            "connection",
            "Cookie",
            "content-length",
            "proxy-authorization",
            "Sec-Fetch-Mode",
            "transfer-encoding",
            "upgrade",
            "countersign-account",
        ] {
            let mut sent = HeaderMap::new();
            let name: HeaderName = format!("{PREFIX}{name}").parse().expect("a name");
            sent.insert(name.clone(), HeaderValue::from_static("x"));
            assert!(headers(&sent).is_err(), "{name}");
        }
    }
}

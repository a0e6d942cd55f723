//! Texts of single values: durations, sizes, addresses, names. Each says what it expects.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use http::Method;

use crate::host::{Authority, Host};

/// `500ms`, `30s`, `5m`, `1h`, `7d`. Zero is refused: nothing here can wait for no time.
///
/// # Errors
/// When there is no unit, or no number.
pub fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str =
        "write a number and a unit: \"500ms\", \"30s\", \"5m\", \"1h\" or \"7d\"";
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("\"{}\" is no duration; {EXPECTED}", text.escape_debug());
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds: u64 = match unit.trim_start() {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => return Err(wrong()),
    };
    let total = number.checked_mul(milliseconds).filter(|total| *total <= MAX_MILLISECONDS);
    match total {
        Some(0) => Err("must be more than 0".to_owned()),
        Some(total) => Ok(Duration::from_millis(total)),
        None => Err(format!("\"{text}\" is longer than 100 years")),
    }
}

/// Later sums with the clock stay far from overflow.
const MAX_MILLISECONDS: u64 = 100 * 366 * 24 * 60 * 60 * 1000;

/// `65536`, `64KiB`, `1MiB`.
pub(super) fn bytes(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start() {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let size = number.parse::<usize>().ok().zip(factor).and_then(|(n, f)| n.checked_mul(f));
    size.ok_or_else(|| {
        format!("\"{}\" is no size; write bytes, or \"64KiB\", \"1MiB\"", text.escape_debug())
    })
}

pub(super) fn listener(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "\"{}\" is no address to listen on; write an IP address and a port: \
             \"127.0.0.1:3128\", \"[::1]:3128\"",
            text.escape_debug()
        )
    })
}

/// A listener that may be switched off.
pub(super) fn optional_listener(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "off" => Ok(None),
        _ => listener(text).map(Some).map_err(|error| format!("{error}, or \"off\"")),
    }
}

pub(super) fn target(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("\"{}\" is no IP address with a port: \"127.0.0.1:9443\"", text.escape_debug())
    })
}

pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("\"{}\" is no IP address", text.escape_debug()))
}

pub(super) fn network(text: &str) -> Result<ipnet::IpNet, String> {
    let alone = || text.parse::<IpAddr>().map(ipnet::IpNet::from);
    text.parse().or_else(|_| alone()).map_err(|_| {
        format!("\"{}\" is no range of addresses: \"10.0.0.0/8\"", text.escape_debug())
    })
}

pub(super) fn host(text: &str) -> Result<Host, String> {
    Host::from_unicode(text).map_err(|error| format!("\"{}\": {error}", text.escape_debug()))
}

/// `host:port`, or `host` for all ports.
pub(super) fn host_and_port(text: &str) -> Result<(Host, Option<u16>), String> {
    if let Ok(host) = Host::from_unicode(text) {
        return Ok((host, None));
    }
    let authority = Authority::parse_connect(text)
        .map_err(|error| format!("\"{}\": {error}", text.escape_debug()))?;
    Ok((authority.host, Some(authority.port)))
}

/// The URL of a proxy to chain to: `http://host:port`, without anything else.
pub(super) fn proxy_url(text: &str) -> Result<Authority, String> {
    let Some(rest) = text.strip_prefix("http://") else {
        return Err(
            "the parent proxy is spoken to over plain HTTP: \"http://host:port\"".to_owned()
        );
    };
    if rest.contains('@') {
        return Err("user and password go into `credentials`, not into the URL".to_owned());
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    Authority::parse(authority, 3128).map_err(|error| error.to_string())
}

/// Methods are case-sensitive (RFC 9110 §9.1), and none that is in use has a small letter.
pub(super) fn method(text: &str) -> Result<Method, String> {
    let small = text.bytes().any(|b| b.is_ascii_lowercase());
    match Method::from_bytes(text.as_bytes()) {
        Ok(_) if small => {
            Err(format!("methods are case-sensitive: write \"{}\"", text.to_ascii_uppercase()))
        }
        Ok(method) => Ok(method),
        Err(_) => Err(format!("\"{}\" is no method", text.escape_debug())),
    }
}

/// Anything whose own error says enough.
pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// A pattern of a rule, with the pattern in the text because it is one of a list.
pub(super) fn pattern<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| format!("\"{}\": {error}", text.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_are_more_than_nothing() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("30s", Some(Duration::from_secs(30))),
            ("5m", Some(Duration::from_secs(300))),
            ("1h", Some(Duration::from_secs(3600))),
            ("7d", Some(Duration::from_secs(604_800))),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("0s", None),
            ("1w", None),
            ("", None),
            ("99999999999999999999s", None),
            ("9999999999d", None),
        ] {
            assert_eq!(duration(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_have_a_binary_unit() {
        for (text, expected) in [
            ("65536", Some(65536)),
            ("64KiB", Some(65536)),
            ("1 MiB", Some(1 << 20)),
            ("64KB", None),
            ("", None),
            ("KiB", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn the_parent_proxy_is_named_without_credentials() {
        assert_eq!(
            proxy_url("http://p.test:8080/").map(|a| a.to_string()),
            Ok("p.test:8080".into())
        );
        assert_eq!(proxy_url("http://p.test").map(|a| a.port), Ok(3128));
        for text in
            ["https://p.test", "p.test:1", "http://u:p@p.test", "http://p.test/x", "http://"]
        {
            assert!(proxy_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_override_is_for_one_port_or_for_all() {
        assert_eq!(host_and_port("a.test").map(|(_, port)| port), Ok(None));
        assert_eq!(host_and_port("a.test:443").map(|(_, port)| port), Ok(Some(443)));
        assert_eq!(host_and_port("[::1]:443").map(|(_, port)| port), Ok(Some(443)));
        assert!(host_and_port("a.test:x").is_err());
    }
}

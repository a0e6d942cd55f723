//! Hosts and authorities in one canonical form, parsed once and used for everything.
//!
//! Policy, credential choice, certificate and dial all work on these values, so two spellings of
//! one host cannot get two answers. Pure. Sources: RFC 3986 §3.2, RFC 9110 §4.2, RFC 9112 §3.2,
//! RFC 5890 (A-labels), WHATWG URL §3.5 (numbers that look like IPv4).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// A DNS name (lower case, A-labels, no trailing dot) or an IP address. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host {
    text: Arc<str>,
    ip: Option<IpAddr>,
}

/// Why a text is not a host or an authority. Says what, never repeats more than it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("the host is empty")]
    Empty,
    #[error("the host is longer than 253 characters or has a label longer than 63")]
    TooLong,
    #[error("the host has a character that no host name has")]
    Character,
    #[error("the host has an empty label, or a label that starts or ends with a hyphen")]
    Label,
    #[error(
        "the host is an IP address in a form that is not accepted; write it as a.b.c.d or [v6]"
    )]
    Address,
    #[error("the port is missing or is not a number from 1 to 65535")]
    Port,
    #[error("user information in an authority is not accepted")]
    Userinfo,
}

impl Host {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// `a.b.c`, then `b.c`, then `c`: the name and the names above it. Nothing for an address.
    pub fn suffixes(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.ip.is_none().then_some(&*self.text);
        std::iter::from_fn(move || {
            let here = rest?;
            rest = here.split_once('.').map(|(_, parent)| parent);
            Some(here)
        })
    }

    pub fn from_ip(ip: IpAddr) -> Self {
        Self { text: Arc::from(ip.to_string()), ip: Some(ip) }
    }

    /// Reads a name that may be internationalized (UTS 46) as a person writes it in a config file.
    /// Requests never get this leniency: on the wire a host is an A-label or refused.
    pub fn from_unicode(text: &str) -> Result<Self, Invalid> {
        if text.is_ascii() {
            return text.parse();
        }
        idna::domain_to_ascii_strict(text).map_err(|_| Invalid::Character)?.parse()
    }
}

impl FromStr for Host {
    type Err = Invalid;

    /// Accepts a name in any case with at most one trailing dot, `a.b.c.d`, or `[v6]`.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(Invalid::Address)?;
            let ip: Ipv6Addr = inner.parse().map_err(|_| Invalid::Address)?;
            return Ok(Self::from_ip(IpAddr::V6(ip)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let marks = check_name(name)?;
        if is_a_number(&name[name.len() - marks.last_label_bytes..]) {
            let ip: Ipv4Addr = name.parse().map_err(|_| Invalid::Address)?;
            return Ok(Self::from_ip(IpAddr::V4(ip)));
        }
        if marks.double_hyphen {
            check_idna(name)?;
        }
        let text = match marks.upper_case {
            true => Arc::from(name.to_ascii_lowercase()),
            false => Arc::from(name),
        };
        Ok(Self { text, ip: None })
    }
}

/// What a walk over a name finds that wants a closer look.
#[derive(Default)]
struct Marks {
    upper_case: bool,
    double_hyphen: bool,
    last_label_bytes: usize,
}

/// Underscores are let through: real API hosts have them, and DNS does not mind. One walk, because
/// every request names a host.
fn check_name(name: &str) -> Result<Marks, Invalid> {
    if name.is_empty() {
        return Err(Invalid::Empty);
    }
    if name.len() > 253 {
        return Err(Invalid::TooLong);
    }
    let mut marks = Marks::default();
    let (mut last, mut label_bytes) = (b'.', 0);
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' => {}
            b'A'..=b'Z' => marks.upper_case = true,
            b'.' if last == b'.' || last == b'-' => return Err(Invalid::Label),
            b'-' if last == b'.' => return Err(Invalid::Label),
            b'-' => marks.double_hyphen |= last == b'-',
            b'.' => {}
            _ => return Err(Invalid::Character),
        }
        label_bytes = if byte == b'.' { 0 } else { label_bytes + 1 };
        if label_bytes > 63 {
            return Err(Invalid::TooLong);
        }
        last = byte;
    }
    marks.last_label_bytes = label_bytes;
    if last == b'.' || last == b'-' { Err(Invalid::Label) } else { Ok(marks) }
}

/// `127.1`, `2130706433`, `0x7f000001` and `0177.0.0.1` are addresses to some resolvers: what ends
/// in a label that is a number must be four plain decimals, or it is refused.
fn is_a_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|b| b.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// An `xn--` label must be one that UTS 46 would have made: one that decodes to plain ASCII is a
/// second spelling of another name (RUSTSEC-2024-0421).
fn check_idna(name: &str) -> Result<(), Invalid> {
    let has_a_label = name.as_bytes().windows(4).any(|four| four.eq_ignore_ascii_case(b"xn--"));
    if !has_a_label {
        return Ok(());
    }
    let (unicode, result) = idna::domain_to_unicode(name);
    result.map_err(|_| Invalid::Character)?;
    let back = idna::domain_to_ascii(&unicode).map_err(|_| Invalid::Character)?;
    if back.eq_ignore_ascii_case(name) { Ok(()) } else { Err(Invalid::Character) }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            _ => f.write_str(&self.text),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A host and a port.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Authority {
    pub host: Host,
    pub port: u16,
}

impl Authority {
    /// Reads `host:port` as CONNECT has it (RFC 9112 §3.2.3): the port may not be left out.
    pub fn parse_connect(text: &str) -> Result<Self, Invalid> {
        let (host, port) = split(text)?;
        Ok(Self { host: host.parse()?, port: parse_port(port.ok_or(Invalid::Port)?)? })
    }

    /// Reads `host[:port]` as `Host` and `:authority` have it. `default_port` is the scheme's.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, Invalid> {
        let (host, port) = split(text)?;
        let port = port.map_or(Ok(default_port), parse_port)?;
        Ok(Self { host: host.parse()?, port })
    }
}

/// Never asks a URL library: some read a port that does not parse as "no port given".
fn split(text: &str) -> Result<(&str, Option<&str>), Invalid> {
    let first = |wanted: u8| text.bytes().position(|byte| byte == wanted);
    if first(b'@').is_some() {
        return Err(Invalid::Userinfo);
    }
    let end_of_host = match text.strip_prefix('[') {
        Some(_) => first(b']').ok_or(Invalid::Address)? + 1,
        None => first(b':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(end_of_host);
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(Invalid::Character),
    }
}

/// Plain decimal without sign or leading zero: `:0443` and `:+443` are second spellings.
fn parse_port(text: &str) -> Result<u16, Invalid> {
    let plain = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    if !plain || text.is_empty() || text.len() > 5 {
        return Err(Invalid::Port);
    }
    text.parse().map_err(|_| Invalid::Port)
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepted_spellings_of_a_host_are_one_host() {
        for (text, canonical) in [
            ("API.Acme.Test", "api.acme.test"),
            ("api.acme.test.", "api.acme.test"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("[::1]", "::1"),
            ("[0:0:0:0:0:0:0:1]", "::1"),
            ("my_host.example", "my_host.example"),
        ] {
            assert_eq!(text.parse::<Host>().expect(text).as_str(), canonical);
        }
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            "api.beta.test..",
            "[api.beta.test]",
            "api%2ebeta.test",
            "api.beta.test\0.acme.test",
            "api。beta。test",
            "ａpi.beta.test",
            "x@y",
            "a/b",
            "a\\b",
            "a b",
            "a\tb",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0x7f.1",
            "1.2.3.4.5",
            "256.0.0.1",
            "[::1%25lo]",
            "[::1",
            "::1",
            "-a.test",
            "a-.test",
            "\u{212a}.example",
            "xn--a-.test",
            "xn--example-.com",
            "https://a",
            "*.a.test",
            "a:b",
            &"a".repeat(64),
            &format!("{}.a", "a.".repeat(130)),
        ] {
            assert!(text.parse::<Host>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn ports_are_plain_decimals_in_range() {
        assert_eq!(
            Authority::parse_connect("A.test:443").map(|a| a.to_string()),
            Ok("a.test:443".into())
        );
        assert_eq!(Authority::parse("[::1]", 80).map(|a| a.to_string()), Ok("[::1]:80".into()));
        for text in [
            "a",
            "a:",
            "a:0",
            "a:0443",
            "a:+443",
            "a:-443",
            "a:65536",
            "a:65979",
            "a:https",
            "a:443:443",
            "a:99999999999999999999",
            "[::1]443",
            "a: 443",
            "u@a:443",
            "a:443/",
        ] {
            assert!(Authority::parse_connect(text).is_err(), "{text}");
        }
    }

    #[test]
    fn suffixes_go_up_label_by_label() {
        let host: Host = "a.b.c".parse().expect("a host");
        assert_eq!(host.suffixes().collect::<Vec<_>>(), ["a.b.c", "b.c", "c"]);
        assert_eq!(Host::from_ip([127, 0, 0, 1].into()).suffixes().count(), 0);
    }

    /// The rules of a name, said label by label.
    fn is_a_name(text: &str) -> bool {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=253).contains(&text.len())
            && text.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(fine)
            })
    }

    proptest! {
        #[test]
        fn one_walk_finds_what_the_rules_say(
            text in prop_oneof!["[aB0_.-]{0,12}", "[a.]{0,80}", "[a-]{60,66}(\\.[a-]{1,3}){0,3}", "\\PC{0,8}"],
        ) {
            prop_assert_eq!(check_name(&text).is_ok(), is_a_name(&text));
            if let Ok(marks) = check_name(&text) {
                prop_assert_eq!(marks.double_hyphen, text.contains("--"));
                prop_assert_eq!(marks.upper_case, text != text.to_ascii_lowercase());
            }
        }

        #[test]
        fn what_is_accepted_is_its_own_canonical_form(text in "\\PC{0,40}") {
            if let Ok(host) = text.parse::<Host>() {
                prop_assert_eq!(host.to_string().parse::<Host>(), Ok(host));
            }
        }

        #[test]
        fn an_authority_survives_a_round_trip(text in "[a-zA-Z0-9.:\\[\\]@%-]{0,30}") {
            if let Ok(authority) = Authority::parse_connect(&text) {
                prop_assert_eq!(Authority::parse_connect(&authority.to_string()), Ok(authority));
            }
        }
    }
}

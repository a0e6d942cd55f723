//! Which addresses may be dialled.
//!
//! Everything that resolution brings is classified before the first connect, in whatever form the
//! address is spelled: an IPv4 address inside an IPv6 one is judged by what it embeds. Sources:
//! the IANA special-purpose registries (RFC 6890), RFC 6052 (NAT64), RFC 8215, RFC 3056 (6to4),
//! RFC 4380 (Teredo), and the cloud providers' metadata services.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use crate::host::Host;

/// Why an address or a name is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Could be allowed by `[upstream] allow`.
    Range(IpAddr, Range),
    /// Never allowed: it hands out the machine's own credentials.
    Metadata,
    /// Never allowed: the request would come back to us.
    Own,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(ip, range) => {
                write!(f, "{ip} is {range}; to allow it, add its range to allow in [upstream]")
            }
            Self::Metadata => f.write_str(
                "it is a cloud metadata service, which gives out the machine's own credentials; \
                 no setting allows it",
            ),
            Self::Own => f.write_str("it is a listener of this countersign itself"),
        }
    }
}

/// What is special about an address that is not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    Loopback,
    Unspecified,
    LinkLocal,
    Private,
    CarrierNat,
    Benchmark,
    ProtocolAssignment,
    Documentation,
    Multicast,
    Reserved,
    UniqueLocal,
    /// 6to4, Teredo, IPv4-compatible, local NAT64: they lead to an IPv4 address by way of others.
    Transition,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "a loopback address",
            Self::Unspecified => "the unspecified address",
            Self::LinkLocal => "a link-local address",
            Self::Private => "a private address",
            Self::CarrierNat => "in the range of carrier-grade NAT",
            Self::Benchmark => "in the range for benchmarks",
            Self::ProtocolAssignment => "in the range of IETF protocol assignments",
            Self::Documentation => "in a range for documentation",
            Self::Multicast => "a multicast address",
            Self::Reserved => "reserved",
            Self::UniqueLocal => "a unique local address",
            Self::Transition => "an IPv6 transition address",
        })
    }
}

/// The addresses we listen on: known after binding, shared by all clones.
#[derive(Clone, Default)]
pub struct OwnAddresses(Arc<ArcSwap<Vec<SocketAddr>>>);

impl OwnAddresses {
    pub fn set(&self, listeners: Vec<SocketAddr>) {
        self.0.store(Arc::new(listeners));
    }

    /// Dialling the unspecified address reaches loopback; a listener on it is reached by every
    /// address of this machine.
    fn includes(&self, to: SocketAddr) -> bool {
        let ip = to.ip().to_canonical();
        self.0.load().iter().any(|own| {
            let own_ip = own.ip().to_canonical();
            let same = own_ip == ip
                || (ip.is_unspecified() && (own_ip.is_loopback() || own_ip.is_unspecified()))
                || (own_ip.is_unspecified() && is_local(ip));
            own.port() == to.port() && same
        })
    }
}

/// Only an address of this machine can be bound.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

/// The rules for every dial.
pub(super) struct Guard {
    allow: Vec<IpNet>,
    own: OwnAddresses,
}

impl Guard {
    pub(super) fn new(allow: Vec<IpNet>, own: OwnAddresses) -> Self {
        Self { allow, own }
    }

    /// A name that needs no resolution to be refused.
    pub(super) fn check_name(&self, host: &Host) -> Result<(), Refusal> {
        if METADATA_NAMES.contains(&host.as_str()) {
            return Err(Refusal::Metadata);
        }
        Ok(())
    }

    /// One bad address among the answers condemns the name: a public name has no business with a
    /// private address, and mixing the two is how rebinding gets past a check.
    pub(super) fn check(&self, addresses: &[SocketAddr]) -> Result<(), Refusal> {
        addresses.iter().try_for_each(|address| self.check_one(*address))
    }

    fn check_one(&self, address: SocketAddr) -> Result<(), Refusal> {
        let ip = address.ip().to_canonical();
        if is_metadata(ip) {
            return Err(Refusal::Metadata);
        }
        self.check_own(address)?;
        match range(ip) {
            Some(range) if !self.allow.iter().any(|net| net.contains(&ip)) => {
                Err(Refusal::Range(ip, range))
            }
            _ => Ok(()),
        }
    }

    /// The one rule for addresses that the operator configured.
    pub(super) fn check_own(&self, address: SocketAddr) -> Result<(), Refusal> {
        if self.own.includes(address) { Err(Refusal::Own) } else { Ok(()) }
    }
}

/// `None`: public.
fn range(ip: IpAddr) -> Option<Range> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => range_v4(ip),
        IpAddr::V6(ip) => range_v6(ip),
    }
}

fn range_v4(ip: Ipv4Addr) -> Option<Range> {
    match ip.octets() {
        [0, 0, 0, 0] => Some(Range::Unspecified),
        [0, ..] => Some(Range::Reserved),
        [127, ..] => Some(Range::Loopback),
        [169, 254, ..] => Some(Range::LinkLocal),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some(Range::Private),
        [100, 64..=127, ..] => Some(Range::CarrierNat),
        [198, 18..=19, ..] => Some(Range::Benchmark),
        [192, 0, 0, _] => Some(Range::ProtocolAssignment),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some(Range::Documentation),
        [192, 88, 99, _] => Some(Range::Transition),
        [224..=239, ..] => Some(Range::Multicast),
        [240..=255, ..] => Some(Range::Reserved),
        _ => None,
    }
}

fn range_v6(ip: Ipv6Addr) -> Option<Range> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(Range::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Range::Loopback),
        // NAT64 is how a public IPv4 address looks behind DNS64, so what it embeds decides.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => embedded(ip).and_then(range_v4),
        [0, 0, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] | [0x2002, ..] | [0x2001, 0, ..] => {
            Some(Range::Transition)
        }
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some(Range::Documentation),
        [0x2001, 2, 0, ..] => Some(Range::Benchmark),
        [0x2001, 1..=0x1ff, ..] => Some(Range::ProtocolAssignment),
        [0x100, 0, 0, 0 | 1, ..] | [0x5f00, ..] => Some(Range::Reserved),
        [0xfe80..=0xfebf, ..] => Some(Range::LinkLocal),
        // Site-local, deprecated, still routed inside some networks.
        [0xfec0..=0xfeff, ..] => Some(Range::Private),
        [0xfc00..=0xfdff, ..] => Some(Range::UniqueLocal),
        [0xff00..=0xffff, ..] => Some(Range::Multicast),
        _ => None,
    }
}

/// The IPv4 address that an IPv6 one leads to.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0x2002, high, low, ..] => Some(of(high, low)),
        // Teredo hides the client's address by inverting its bits (RFC 4380 §4).
        [0x2001, 0, _, _, _, _, high, low] => Some(of(!high, !low)),
        _ => None,
    }
}

fn is_metadata(ip: IpAddr) -> bool {
    let inner = match ip {
        IpAddr::V6(ip) => embedded(ip).map(IpAddr::V4),
        IpAddr::V4(_) => None,
    };
    METADATA.contains(&ip) || inner.is_some_and(|ip| METADATA.contains(&ip))
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(a: u16, b: u16, h: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, h))
}

/// AWS (instance, task, pod), Google, Azure's wire server, Alibaba, Oracle, Tencent, Scaleway.
const METADATA: [IpAddr; 13] = [
    v4(169, 254, 169, 254),
    v4(169, 254, 169, 253),
    v4(169, 254, 170, 2),
    v4(169, 254, 170, 23),
    v4(169, 254, 0, 23),
    v4(169, 254, 42, 42),
    v4(100, 100, 100, 200),
    v4(192, 0, 0, 192),
    v4(168, 63, 129, 16),
    v6(0xfd00, 0xec2, 0x254),
    v6(0xfd00, 0xec2, 0x23),
    v6(0xfd20, 0xce, 0x254),
    v6(0xfd00, 0x42, 0x42),
];

const METADATA_NAMES: [&str; 7] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.tencentyun.com",
    "metadata.platformequinix.com",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allow: &[&str]) -> Guard {
        let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
        Guard::new(allow, OwnAddresses::default())
    }

    fn at(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().expect(ip), 443)
    }

    #[test]
    fn addresses_that_are_not_public_are_refused() {
        for ip in [
            "127.0.0.1",
            "127.8.9.10",
            "0.0.0.0",
            "0.1.2.3",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:7f00:1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "2001:0:1::1",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "198.18.0.1",
            "198.19.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "192.88.99.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "100::1",
            "3fff::1",
            "2001:2::1",
            "2001:20::1",
            "5f00::1",
            "169.254.1.1",
        ] {
            assert!(matches!(guard(&[]).check(&[at(ip)]), Err(Refusal::Range(..))), "{ip}");
        }
    }

    #[test]
    fn public_addresses_are_not() {
        for ip in [
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "192.0.1.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert_eq!(guard(&[]).check(&[at(ip)]), Ok(()), "{ip}");
        }
    }

    #[test]
    fn metadata_stays_refused_inside_an_allowed_range() {
        let guard = guard(&["0.0.0.0/0", "::/0"]);
        for ip in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "::169.254.169.254",
            "2002:a9fe:a9fe::",
            "fd00:ec2::254",
            "100.100.100.200",
            "169.254.170.2",
            "192.0.0.192",
            "168.63.129.16",
        ] {
            assert_eq!(guard.check(&[at(ip)]), Err(Refusal::Metadata), "{ip}");
        }
        for (name, refused) in [
            ("metadata.google.internal", true),
            ("METADATA.google.internal.", true),
            ("metadata", true),
            ("db.internal", false),
        ] {
            assert_eq!(guard.check_name(&name.parse().unwrap()).is_err(), refused, "{name}");
        }
    }

    #[test]
    fn an_allowed_range_is_dialled_and_nothing_beside_it() {
        let guard = guard(&["10.1.0.0/16"]);
        assert_eq!(guard.check(&[at("10.1.2.3")]), Ok(()));
        assert_eq!(guard.check(&[at("::ffff:10.1.2.3")]), Ok(()));
        assert!(guard.check(&[at("10.2.0.1")]).is_err());
        assert!(guard.check(&[at("64:ff9b::a01:203")]).is_err());
    }

    #[test]
    fn one_private_answer_among_public_ones_condemns_all() {
        assert!(guard(&[]).check(&[at("8.8.8.8"), at("10.0.0.1")]).is_err());
        assert!(guard(&[]).check(&[at("127.0.0.1"), at("8.8.8.8")]).is_err());
    }

    #[test]
    fn our_own_listeners_are_refused_by_every_address_that_reaches_them() {
        let own = OwnAddresses::default();
        own.set(vec!["127.0.0.1:3128".parse().unwrap(), "0.0.0.0:8080".parse().unwrap()]);
        let guard = Guard::new(vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()], own);
        for (to, refused) in [
            ("127.0.0.1:3128", true),
            ("0.0.0.0:3128", true),
            ("[::ffff:127.0.0.1]:3128", true),
            ("127.0.0.1:3129", false),
            ("127.9.9.9:8080", true),
            ("[::1]:8080", true),
            ("127.0.0.2:3128", false),
            ("8.8.8.8:8080", false),
        ] {
            assert_eq!(guard.check(&[to.parse().unwrap()]).is_err(), refused, "{to}");
        }
    }
}

//! From a name to the addresses that may be dialled.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::guard::Guard;
use super::{Error, Override};
use crate::host::Host;

/// Overrides first, then the machine's own resolver; the guard sees every answer.
pub(super) struct Resolver {
    overrides: HashMap<Host, Vec<(Option<u16>, SocketAddr)>>,
    guard: Guard,
}

impl Resolver {
    pub(super) fn new(list: Vec<Override>, guard: Guard) -> Self {
        let mut overrides = HashMap::<_, Vec<_>>::new();
        for Override { host, port, to } in list {
            overrides.entry(host).or_default().push((port, to));
        }
        Self { overrides, guard }
    }

    /// The addresses to try, in the resolver's order. Never empty.
    pub(super) async fn resolve(&self, host: &Host, port: u16) -> Result<Vec<SocketAddr>, Error> {
        if let Some(to) = self.configured(host, port)? {
            return Ok(vec![to]);
        }
        self.check_name(host)?;
        let addresses = lookup(host, port).await?;
        self.guard.check(&addresses).map_err(|refusal| refused(host, refusal))?;
        Ok(addresses)
    }

    /// An address that the operator wrote down is dialled wherever it leads, except to ourselves.
    pub(super) fn configured(&self, host: &Host, port: u16) -> Result<Option<SocketAddr>, Error> {
        let Some(list) = self.overrides.get(host) else { return Ok(None) };
        let exact = list.iter().find(|(key, _)| *key == Some(port));
        let Some(&(_, to)) = exact.or_else(|| list.iter().find(|(key, _)| key.is_none())) else {
            return Ok(None);
        };
        self.guard.check_own(to).map_err(|refusal| refused(host, refusal))?;
        Ok(Some(to))
    }

    /// What can be said of a name when a parent proxy resolves it.
    pub(super) fn check_unresolved(&self, host: &Host, port: u16) -> Result<(), Error> {
        self.check_name(host)?;
        let known = literals(host);
        let addresses: Vec<_> = known.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        self.guard.check(&addresses).map_err(|refusal| refused(host, refusal))
    }

    /// The parent proxy's own address: configured, so only a circle is refused.
    pub(super) async fn resolve_parent(
        &self,
        host: &Host,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Error> {
        let addresses = lookup(host, port).await?;
        for address in &addresses {
            self.guard.check_own(*address).map_err(|refusal| refused(host, refusal))?;
        }
        Ok(addresses)
    }

    fn check_name(&self, host: &Host) -> Result<(), Error> {
        self.guard.check_name(host).map_err(|refusal| refused(host, refusal))
    }
}

fn refused(host: &Host, refusal: super::Refusal) -> Error {
    Error::Refused { host: host.clone(), refusal }
}

/// Addresses that need no resolver: a literal, and `localhost` with the names below it, which are
/// loopback by RFC 6761 §6.3 whatever a resolver says.
fn literals(host: &Host) -> Vec<IpAddr> {
    if let Some(ip) = host.ip() {
        return vec![ip];
    }
    let name = host.as_str();
    if name == "localhost" || name.ends_with(".localhost") {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    Vec::new()
}

async fn lookup(host: &Host, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let known = literals(host);
    if !known.is_empty() {
        return Ok(known.into_iter().map(|ip| SocketAddr::new(ip, port)).collect());
    }
    let failed = |source| Error::Dns { host: host.clone(), source };
    let found = tokio::net::lookup_host((host.as_str(), port)).await.map_err(failed)?;
    let addresses: Vec<_> = found.collect();
    if addresses.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::super::guard::OwnAddresses;
    use super::*;
    use crate::upstream::{ErrorKind, Refusal};

    fn resolver(overrides: &[(&str, Option<u16>, &str)], own: &[&str]) -> Resolver {
        let list = overrides
            .iter()
            .map(|(host, port, to)| Override {
                host: host.parse().unwrap(),
                port: *port,
                to: to.parse().unwrap(),
            })
            .collect();
        let listeners = OwnAddresses::default();
        listeners.set(own.iter().map(|to| to.parse().unwrap()).collect());
        Resolver::new(list, Guard::new(Vec::new(), listeners))
    }

    #[tokio::test]
    async fn the_override_of_a_port_beats_that_of_the_host() {
        let resolver =
            resolver(&[("a.test", None, "127.0.0.1:1"), ("a.test", Some(443), "127.0.0.1:2")], &[]);
        let host = "a.test".parse().unwrap();
        for (port, to) in [(443, "127.0.0.1:2"), (80, "127.0.0.1:1")] {
            assert_eq!(resolver.resolve(&host, port).await.unwrap(), [to.parse().unwrap()]);
        }
    }

    #[tokio::test]
    async fn an_override_cannot_lead_to_ourselves() {
        let resolver = resolver(&[("a.test", None, "127.0.0.1:3128")], &["127.0.0.1:3128"]);
        let error = resolver.resolve(&"a.test".parse().unwrap(), 443).await.unwrap_err();
        assert!(matches!(error, Error::Refused { refusal: Refusal::Own, .. }), "{error}");
    }

    #[tokio::test]
    async fn localhost_is_loopback_whatever_the_resolver_says() {
        let resolver = resolver(&[], &[]);
        for name in ["localhost", "localhost.", "a.localhost", "127.0.0.1", "[::1]"] {
            let host = name.parse().unwrap();
            let error = resolver.resolve(&host, 80).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{name}");
            assert!(resolver.check_unresolved(&host, 80).is_err(), "{name}");
        }
    }
}

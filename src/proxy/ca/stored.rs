//! A CA that exists already: read back, and what it may sign for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Error;
use super::files::Files;
use crate::host::Host;

/// What an existing CA may sign for: read back from its certificate, so that a host outside is
/// refused here with a reason and not by the client with an alert.
#[derive(Debug, Default)]
pub(super) struct Constraints {
    pub(super) names: Vec<String>,
    pub(super) addresses: Vec<Vec<u8>>,
    pub(super) any: bool,
}

impl Constraints {
    fn of(certificate: &X509Certificate<'_>) -> Option<Self> {
        let Some(extension) = certificate.name_constraints().ok()? else {
            return Some(Self { any: true, ..Self::default() });
        };
        let mut constraints = Self::default();
        for subtree in extension.value.permitted_subtrees.iter().flatten() {
            match &subtree.base {
                GeneralName::DNSName(name) => constraints.names.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(range) => constraints.addresses.push(range.to_vec()),
                _ => {}
            }
        }
        Some(constraints)
    }

    pub(super) fn permit(&self, host: &Host) -> bool {
        let octets = match host.ip() {
            Some(std::net::IpAddr::V4(ip)) => ip.octets().to_vec(),
            Some(std::net::IpAddr::V6(ip)) => ip.octets().to_vec(),
            None => {
                return self.any
                    || host.suffixes().any(|above| self.names.iter().any(|name| name == above));
            }
        };
        self.any || self.addresses.iter().any(|range| covers(range, &octets))
    }
}

/// `range` is an address and a mask of the same length, one after the other.
fn covers(range: &[u8], address: &[u8]) -> bool {
    let (base, mask) = range.split_at(range.len() / 2);
    base.len() == address.len()
        && base.iter().zip(mask).zip(address).all(|((base, mask), byte)| byte & mask == base & mask)
}

/// Both halves, and that they belong together.
pub(super) struct Stored {
    pub(super) pem: String,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: KeyPair,
    pub(super) facts: Facts,
}

impl Stored {
    pub(super) fn read(files: &Files) -> Result<Self, Error> {
        let unusable = || Error::Unusable { pem: files.pem.clone(), key: files.key.clone() };
        let pem = files.read(&files.pem)?;
        let key = zeroize::Zeroizing::new(files.read_key()?);
        Self::of(pem, &key).ok_or_else(unusable)
    }

    pub(super) fn of(pem: String, key: &str) -> Option<Self> {
        let key = KeyPair::from_pem(key).ok()?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let facts = Facts::of(&certificate, Some(&key))?;
        Some(Self { pem, certificate, key, facts })
    }
}

/// What is needed of the CA's own certificate.
pub(super) struct Facts {
    pub(super) not_after: SystemTime,
    pub(super) constraints: Constraints,
}

impl Facts {
    /// `None` unless it is a CA's and belongs to `key`, if there is one to compare with.
    pub(super) fn of(certificate: &CertificateDer<'_>, key: Option<&KeyPair>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let public = certificate.public_key().raw;
        let ours = key.is_none_or(|key| public == key.subject_public_key_info());
        if !certificate.is_ca() || !ours {
            return None;
        }
        Some(Self {
            not_after: system_time(certificate.validity().not_after.timestamp()),
            constraints: Constraints::of(&certificate)?,
        })
    }
}

fn system_time(unix_seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_seconds).unwrap_or(0))
}

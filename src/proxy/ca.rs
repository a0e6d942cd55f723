//! The local CA: what clients trust, and the leaves that interception shows them.
//!
//! Touches `ca.pem`, `ca.key` and `ca.lock` in the data directory, at start only. After that a leaf
//! costs one signature per host, is kept in a bounded cache, and is renewed before it expires.
//! Sources: RFC 5280 §4.2 (extensions), §4.2.1.10 (name constraints), RFC 8446 §4.6.1 (tickets),
//! Apple's requirements for trusted certificates (≤ 825 days, serverAuth, SAN).

mod files;
mod issue;
mod listener;
mod sealed;
mod stored;

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use lru::LruCache;
use parking_lot::Mutex;
use rcgen::{Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

pub use files::pem_path;
pub use listener::{Clients, certificate_names, listener_config};

use files::{Files, Found, exists};
use issue::{create, leaf_params, serial};
use listener::{complete, server_provider};
use stored::{Constraints, Facts, Stored};

use crate::clock::{Clock, rfc3339};
use crate::host::Host;
use crate::random::NoRandom;
use crate::secret::hex;

/// How a new CA is made, and how long and how many leaves are kept.
#[derive(Clone, Debug)]
pub struct CaSettings {
    /// Name constraints: these names and the names below them. Empty: any host. Used once, when
    /// the CA is created.
    pub permitted: Vec<Host>,
    /// At most a year.
    pub ca_lifetime: Duration,
    /// At most seven days, and never beyond the CA's own end.
    pub leaf_lifetime: Duration,
    /// Hosts whose leaves are kept.
    pub leaf_cache: usize,
}

/// What [`CertificateAuthority::open_or_create`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// There was none: clients do not trust it yet.
    Created,
    Existing,
    /// Works, but ends within [`EXPIRY_NOTICE`].
    ExpiresSoon,
}

/// Why there is no CA, or no certificate for a host.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} could not be used: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "{} is there but {} is missing: restore it from a backup, or delete {} to start with a new CA",
        present.display(), missing.display(), present.display()
    )]
    Half { present: PathBuf, missing: PathBuf },
    #[error(
        "{} may be read by other users (mode {mode:04o}): run `chmod 600 {}`, and make a new CA if others had access",
        path.display(), path.display()
    )]
    KeyReadable { path: PathBuf, mode: u32 },
    #[error("the CA in {} ended at {at}: delete {} and {}, start again and trust the new one (`countersign ca install`)",
        pem.display(), pem.display(), key.display())]
    Expired { pem: PathBuf, key: PathBuf, at: String },
    #[error("{} is not a CA certificate with a P-256 key in {}: restore both from one backup, or delete both",
        pem.display(), key.display())]
    Unusable { pem: PathBuf, key: PathBuf },
    #[error(
        "the CA may not sign for {host}: its name constraints, `ca.permitted` when it was created, leave it out"
    )]
    NotPermitted { host: Host },
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
    #[error("the CA ended at {at}")]
    Ended { at: String },
    #[error("a certificate could not be made")]
    Issue(#[from] rcgen::Error),
    #[error("TLS could not be set up")]
    Tls(#[from] rustls::Error),
    #[error("{what} holds no usable PEM")]
    Pem { what: &'static str },
    #[error("the client CA cannot be used to verify certificates")]
    ClientCa(#[from] rustls::server::VerifierBuilderError),
}

/// An existing CA is reported as [`Opened::ExpiresSoon`] from this long before its end.
pub const EXPIRY_NOTICE: Duration = Duration::from_secs(30 * DAY);

/// Signs for hosts that are intercepted. One per process.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    certificate: CertificateDer<'static>,
    not_after: SystemTime,
    constraints: Constraints,
    leaf_lifetime: Duration,
    leaf_keys: KeyPair,
    leaf_signer: Arc<dyn SigningKey>,
    /// Everything that the hosts' configurations share: provider, versions, tickets, ALPN.
    base: ServerConfig,
    leaves: Mutex<LruCache<Host, Arc<Slot>>>,
    stats: Stats,
    clock: Clock,
}

/// One host's place in the cache. Its lock is held while the leaf is minted, so whoever comes
/// meanwhile waits for that leaf, and other hosts do not.
type Slot = Mutex<Option<Leaf>>;

#[derive(Clone)]
struct Leaf {
    config: Arc<ServerConfig>,
    renew_at: SystemTime,
}

#[derive(Default)]
struct Stats {
    hits: AtomicU64,
    minted: AtomicU64,
}

/// The leaf cache at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStats {
    pub entries: usize,
    pub hits: u64,
    pub minted: u64,
}

impl CertificateAuthority {
    /// Reads the CA in `dir`, or makes one. Safe to call from several processes at once: a file
    /// lock lets one create while the others wait and then read.
    pub fn open_or_create(
        dir: &Path,
        settings: &CaSettings,
        clock: &Clock,
    ) -> Result<(Self, Opened), Error> {
        let files = Files::create_dir(dir)?;
        let _lock = files.lock()?;
        let created = files.check_both_or_none()? == Found::None;
        if created {
            create(&files, settings, clock.now())?;
        }
        let ca = Self::read(&files, settings, clock)?;
        let opened = match created {
            true => Opened::Created,
            false if ca.not_after <= clock.now() + EXPIRY_NOTICE => Opened::ExpiresSoon,
            false => Opened::Existing,
        };
        Ok((ca, opened))
    }

    fn read(files: &Files, settings: &CaSettings, clock: &Clock) -> Result<Self, Error> {
        Self::from_stored(files, Stored::read(files)?, settings, clock)
    }

    fn from_stored(
        files: &Files,
        stored: Stored,
        settings: &CaSettings,
        clock: &Clock,
    ) -> Result<Self, Error> {
        let Stored { pem, certificate, key, facts } = stored;
        if facts.not_after <= clock.now() {
            let (pem, key) = (files.pem.clone(), files.key.clone());
            return Err(Error::Expired { pem, key, at: rfc3339(facts.not_after) });
        }
        let provider = Arc::new(server_provider());
        let leaf_keys = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&certificate, key)?,
            pem,
            certificate,
            not_after: facts.not_after,
            constraints: facts.constraints,
            leaf_lifetime: settings.leaf_lifetime.min(MAX_LEAF_LIFETIME),
            leaf_signer: signer(&provider, &leaf_keys)?,
            leaf_keys,
            base: base_config(provider)?,
            leaves: Mutex::new(LruCache::new(
                NonZeroUsize::new(settings.leaf_cache).unwrap_or(NonZeroUsize::MIN),
            )),
            stats: Stats::default(),
            clock: clock.clone(),
        })
    }

    /// The TLS configuration that shows `host`'s leaf. Minted by the first caller; those who come
    /// meanwhile wait for it, which takes one signature.
    pub fn server_config(&self, host: &Host) -> Result<Arc<ServerConfig>, Error> {
        let slot = self.slot(host);
        let mut leaf = slot.lock();
        let now = self.clock.now();
        if let Some(leaf) = leaf.as_ref().filter(|leaf| now < leaf.renew_at) {
            self.stats.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(leaf.config.clone());
        }
        let minted = self.mint(host, now)?;
        self.stats.minted.fetch_add(1, Ordering::Relaxed);
        Ok(leaf.insert(minted).config.clone())
    }

    fn slot(&self, host: &Host) -> Arc<Slot> {
        self.leaves.lock().get_or_insert_ref(host, Arc::default).clone()
    }

    fn mint(&self, host: &Host, now: SystemTime) -> Result<Leaf, Error> {
        if !self.constraints.permit(host) {
            return Err(Error::NotPermitted { host: host.clone() });
        }
        let not_after = (now + self.leaf_lifetime).min(self.not_after);
        let Ok(life) = not_after.duration_since(now) else {
            return Err(Error::Ended { at: rfc3339(self.not_after) });
        };
        let params = leaf_params(host, now - BACKDATE, not_after, serial()?);
        let certificate = params.signed_by(&self.leaf_keys, &self.issuer)?;
        let chain = vec![certificate.der().clone()];
        let certified = Arc::new(CertifiedKey::new(chain, self.leaf_signer.clone()));
        let mut config = self.base.clone();
        config.cert_resolver = Arc::new(OneHost { host: host.clone(), certified });
        Ok(Leaf { config: Arc::new(config), renew_at: now + life.mul_f64(RENEW_AFTER) })
    }

    /// The CA's certificate, for clients to trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of the certificate, `AB:CD:…`, as browsers and `openssl x509 -fingerprint` show it.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate)
    }

    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub fn cache_stats(&self) -> CacheStats {
        CacheStats {
            entries: self.leaves.lock().len(),
            hits: self.stats.hits.load(Ordering::Relaxed),
            minted: self.stats.minted.load(Ordering::Relaxed),
        }
    }
}

/// SHA-256 of a certificate, upper-case hexadecimal with colons.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digits = hex(&Sha256::digest(certificate)).to_ascii_uppercase();
    let pairs: Vec<&str> = (0..digits.len()).step_by(2).map(|i| &digits[i..i + 2]).collect();
    pairs.join(":")
}

/// What is known of a CA without signing anything.
#[derive(Clone, Debug)]
pub struct Description {
    pub pem: String,
    pub certificate: CertificateDer<'static>,
    pub not_after: SystemTime,
    /// The names and addresses it may sign for; empty for any.
    pub permitted: Vec<String>,
}

/// Reads the CA in `dir` without creating one, and with the same checks but that of its end:
/// `None` if there is none yet.
pub fn describe(dir: &Path) -> Result<Option<Description>, Error> {
    let files = Files::at(dir);
    if !exists(&files.pem)? {
        return Ok(None);
    }
    let (pem, certificate, facts) = match exists(&files.key)? {
        true => {
            let Stored { pem, certificate, facts, .. } = Stored::read(&files)?;
            (pem, certificate, facts)
        }
        // The key is in the store.
        false => {
            let unusable = || Error::Unusable { pem: files.pem.clone(), key: files.key.clone() };
            let pem = files.read(&files.pem)?;
            let certificate = CertificateDer::from_pem_slice(pem.as_bytes());
            let certificate = certificate.map_err(|_| unusable())?;
            let facts = Facts::of(&certificate, None).ok_or_else(unusable)?;
            (pem, certificate, facts)
        }
    };
    let permitted = facts.constraints.names;
    Ok(Some(Description { pem, certificate, not_after: facts.not_after, permitted }))
}

/// Shows one host's leaf. A client that asks for another name gets none: two names for one
/// connection could get two answers. A client without a server name gets the leaf.
#[derive(Debug)]
struct OneHost {
    host: Host,
    certified: Arc<CertifiedKey>,
}

impl ResolvesServerCert for OneHost {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name();
        let ours = asked.is_none_or(|name| name.eq_ignore_ascii_case(self.host.as_str()));
        ours.then(|| self.certified.clone())
    }
}

fn signer(provider: &CryptoProvider, keys: &KeyPair) -> Result<Arc<dyn SigningKey>, Error> {
    let der = PrivateKeyDer::Pkcs8(keys.serialize_der().into());
    Ok(provider.key_provider.load_private_key(der)?)
}

/// Tickets are sealed with one rotating key for all hosts, so a client resumes whichever cached
/// configuration it meets; rustls binds each ticket to its server name.
fn base_config(provider: Arc<CryptoProvider>) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(NoCertificate));
    complete(&mut config)?;
    Ok(config)
}

/// What the base has until a host's resolver takes its place.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

const DAY: u64 = 24 * 60 * 60;
const HOUR: u64 = 60 * 60;

/// Clients' clocks run behind ours. Counts as a part of a certificate's life.
const BACKDATE: Duration = Duration::from_secs(HOUR);
const MAX_CA_LIFETIME: Duration = Duration::from_secs(365 * DAY - HOUR);
const MAX_LEAF_LIFETIME: Duration = Duration::from_secs(7 * DAY - HOUR);

/// A leaf is renewed after this part of its life, so that a connection opened just before lasts.
const RENEW_AFTER: f64 = 2.0 / 3.0;

#[cfg(test)]
mod tests;

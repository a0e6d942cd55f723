//! The local CA: what clients trust, and the leaves that interception shows them.
//!
//! Touches `ca.pem`, `ca.key` and `ca.lock` in the data directory, at start only. After that a leaf
//! costs one signature per host, is kept in a bounded cache, and is renewed before it expires.
//! Sources: RFC 5280 §4.2 (extensions), §4.2.1.10 (name constraints), RFC 8446 §4.6.1 (tickets),
//! Apple's requirements for trusted certificates (≤ 825 days, serverAuth, SAN).

mod sealed;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lru::LruCache;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, PublicKeyData as _, SanType, SerialNumber,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::clock::{Clock, rfc3339};
use crate::host::Host;
use crate::random::{self, NoRandom};
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
        let provider = Arc::new(aws_lc_rs::default_provider());
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

/// The two halves and the lock, by path.
struct Files {
    pem: PathBuf,
    key: PathBuf,
    lock: PathBuf,
}

#[derive(PartialEq, Eq)]
enum Found {
    None,
    Both,
}

impl Files {
    fn create_dir(dir: &Path) -> Result<Self, Error> {
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(dir).map_err(at(dir))?;
        Ok(Self::at(dir))
    }

    fn at(dir: &Path) -> Self {
        Self { pem: pem_path(dir), key: dir.join("ca.key"), lock: dir.join("ca.lock") }
    }

    /// Held until the file is dropped, also when the process dies.
    fn lock(&self) -> Result<File, Error> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&self.lock).map_err(at(&self.lock))?;
        file.lock().map_err(at(&self.lock))?;
        Ok(file)
    }

    fn check_both_or_none(&self) -> Result<Found, Error> {
        let (pem, key) = (&self.pem, &self.key);
        match (exists(pem)?, exists(key)?) {
            (true, true) => Ok(Found::Both),
            (false, false) => Ok(Found::None),
            (true, false) => Err(Error::Half { present: pem.clone(), missing: key.clone() }),
            (false, true) => Err(Error::Half { present: key.clone(), missing: pem.clone() }),
        }
    }

    fn read(&self, path: &Path) -> Result<String, Error> {
        fs::read_to_string(path).map_err(at(path))
    }

    fn read_key(&self) -> Result<String, Error> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&self.key).map_err(at(&self.key))?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(Error::KeyReadable { path: self.key.clone(), mode: mode & 0o7777 });
            }
        }
        self.read(&self.key)
    }
}

/// Where the CA's certificate is in a data directory.
pub fn pem_path(dir: &Path) -> PathBuf {
    dir.join("ca.pem")
}

fn exists(path: &Path) -> Result<bool, Error> {
    path.try_exists().map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}

/// Whole or not at all: a reader never sees half a file, and the mode is right from the start.
fn write_atomically(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".ca-").tempfile_in(dir).map_err(at(path))?;
    file.write_all(text.as_bytes()).map_err(at(path))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let permissions = fs::Permissions::from_mode(mode);
        file.as_file().set_permissions(permissions).map_err(at(path))?;
    }
    #[cfg(not(unix))]
    let _ = mode;
    file.as_file().sync_all().map_err(at(path))?;
    file.persist(path).map_err(|error| at(path)(error.error))?;
    Ok(())
}

fn create(files: &Files, settings: &CaSettings, now: SystemTime) -> Result<(), Error> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let serial = serial()?;
    let certificate = ca_params(settings, now, serial).self_signed(&key)?;
    let key_pem = zeroize::Zeroizing::new(key.serialize_pem());
    write_atomically(&files.key, &key_pem, 0o600)?;
    write_atomically(&files.pem, &certificate.pem(), 0o644)
}

fn ca_params(settings: &CaSettings, now: SystemTime, serial: [u8; 16]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + settings.ca_lifetime.min(MAX_CA_LIFETIME)).into();
    params.distinguished_name =
        common_name(&format!("countersign local CA {} {}", machine_name(), hex(&serial[12..])));
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    // It signs leaves and nothing else: no CA below it.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.name_constraints = name_constraints(&settings.permitted);
    params
}

fn leaf_params(
    host: &Host,
    not_before: SystemTime,
    not_after: SystemTime,
    serial: [u8; 16],
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = leaf_subject(host);
    params.subject_alt_names = match (host.ip(), host.as_str().try_into()) {
        (Some(ip), _) => vec![SanType::IpAddress(ip)],
        (None, Ok(name)) => vec![SanType::DnsName(name)],
        // A host is ASCII by construction, so its name always fits an IA5String.
        (None, Err(_)) => Vec::new(),
    };
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

/// The host where it fits (X.520's bound is 64), for people who read certificates. None for an
/// address, which OpenSSL would hold against a CA's DNS constraints.
fn leaf_subject(host: &Host) -> DistinguishedName {
    if host.ip().is_some() || host.as_str().len() > 64 {
        return DistinguishedName::new();
    }
    common_name(host.as_str())
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// A form that has no permitted subtree is unconstrained (RFC 5280 §4.2.1.10), so the form that is
/// not listed, names or addresses, is excluded whole.
fn name_constraints(permitted: &[Host]) -> Option<NameConstraints> {
    if permitted.is_empty() {
        return None;
    }
    let everything = |of: &str| of.parse().map(|ip| CidrSubnet::from_addr_prefix(ip, 0));
    let mut excluded_subtrees = Vec::new();
    if permitted.iter().all(|host| host.ip().is_none()) {
        let all = ["0.0.0.0", "::"].into_iter().filter_map(|of| everything(of).ok());
        excluded_subtrees.extend(all.map(GeneralSubtree::IpAddress));
    }
    if permitted.iter().all(|host| host.ip().is_some()) {
        excluded_subtrees.push(GeneralSubtree::DnsName(String::new()));
    }
    Some(NameConstraints {
        permitted_subtrees: permitted.iter().map(subtree).collect(),
        excluded_subtrees,
    })
}

fn subtree(host: &Host) -> GeneralSubtree {
    match host.ip() {
        Some(ip) => {
            let whole = if ip.is_ipv4() { 32 } else { 128 };
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(ip, whole))
        }
        None => GeneralSubtree::DnsName(host.as_str().to_owned()),
    }
}

/// What an existing CA may sign for: read back from its certificate, so that a host outside is
/// refused here with a reason and not by the client with an alert.
#[derive(Debug, Default)]
struct Constraints {
    names: Vec<String>,
    addresses: Vec<Vec<u8>>,
    any: bool,
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

    fn permit(&self, host: &Host) -> bool {
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
struct Stored {
    pem: String,
    certificate: CertificateDer<'static>,
    key: KeyPair,
    facts: Facts,
}

impl Stored {
    fn read(files: &Files) -> Result<Self, Error> {
        let unusable = || Error::Unusable { pem: files.pem.clone(), key: files.key.clone() };
        let pem = files.read(&files.pem)?;
        let key = zeroize::Zeroizing::new(files.read_key()?);
        Self::of(pem, &key).ok_or_else(unusable)
    }

    fn of(pem: String, key: &str) -> Option<Self> {
        let key = KeyPair::from_pem(key).ok()?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let facts = Facts::of(&certificate, Some(&key))?;
        Some(Self { pem, certificate, key, facts })
    }
}

/// What is needed of the CA's own certificate.
struct Facts {
    not_after: SystemTime,
    constraints: Constraints,
}

impl Facts {
    /// `None` unless it is a CA's and belongs to `key`, if there is one to compare with.
    fn of(certificate: &CertificateDer<'_>, key: Option<&KeyPair>) -> Option<Self> {
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

/// 16 random bytes: positive, and never shorter, because the top bits are 01.
fn serial() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    random::fill(&mut bytes)?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(bytes)
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
    share_out_tickets(&mut config)?;
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

fn share_out_tickets(config: &mut ServerConfig) -> Result<(), Error> {
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    Ok(())
}

/// TLS for a listener with a certificate of its own (`[proxy.tls]`). With `client_ca`, clients may
/// prove who they are with a certificate, and need not: tokens go on working.
pub fn listener_config(
    certificate_pem: &[u8],
    key_pem: &[u8],
    client_ca_pem: Option<&[u8]>,
) -> Result<ServerConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = certificates(certificate_pem, "the listener's certificate")?;
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|_| Error::Pem { what: "the listener's key" })?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match client_ca_pem {
        Some(pem) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(roots(pem)?.into(), provider)
                .allow_unauthenticated()
                .build()?,
        ),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    share_out_tickets(&mut config)?;
    Ok(config)
}

fn roots(pem: &[u8]) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem, "the client CA")? {
        store.add(certificate)?;
    }
    Ok(store)
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(Error::Pem { what }),
    }
}

/// The DNS names, URIs and e-mail addresses in a verified client certificate's subject alternative
/// name. The common name is not looked at: nothing says what it means (RFC 9525 §2).
pub fn certificate_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => {
            Some((*text).to_owned())
        }
        _ => None,
    });
    names.collect()
}

/// For people who see several of our CAs in one trust store. Bounded so that the common name stays
/// within 64 characters.
fn machine_name() -> String {
    let read = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .or_else(|| std::env::var("HOSTNAME").ok());
    let name = read.unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-' || *c == '.';
    let name: String = name.trim().chars().filter(plain).take(32).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

const DAY: u64 = 24 * 60 * 60;
const HOUR: u64 = 60 * 60;

/// Clients' clocks run behind ours. Counts as a part of a certificate's life.
const BACKDATE: Duration = Duration::from_secs(HOUR);
const MAX_CA_LIFETIME: Duration = Duration::from_secs(365 * DAY - HOUR);
const MAX_LEAF_LIFETIME: Duration = Duration::from_secs(7 * DAY - HOUR);

/// A leaf is renewed after this part of its life, so that a connection opened just before lasts.
const RENEW_AFTER: f64 = 2.0 / 3.0;

const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

#[cfg(test)]
mod tests;

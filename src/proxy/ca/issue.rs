//! What our certificates say: the CA's own, and those of the hosts that it signs for.

use std::fs;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
    SanType, SerialNumber,
};

use super::files::{Files, write_atomically};
use super::{BACKDATE, CaSettings, Error, MAX_CA_LIFETIME};
use crate::host::Host;
use crate::random;
use crate::secret::hex;

pub(super) fn create(files: &Files, settings: &CaSettings, now: SystemTime) -> Result<(), Error> {
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

pub(super) fn leaf_params(
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

pub(super) fn common_name(text: &str) -> DistinguishedName {
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

/// 16 random bytes: positive, and never shorter, because the top bits are 01.
pub(super) fn serial() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    random::fill(&mut bytes)?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(bytes)
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

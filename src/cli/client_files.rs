//! The files that clients need beside variables: a bundle of roots, and settings for the tools that
//! read no variable.
//!
//! Touches the directory it is given, and reads the roots that the user has now. Files are for the
//! owner only, because a user's `wgetrc` may hold a password.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::environment::{CA_VARIABLES, ClientFiles, Lookup, ProxyUrl, TRUSTSTORE_PASSWORD};

/// Whether Java's trust store is built, which takes its `keytool` some seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Java {
    No,
    Yes,
}

/// Writes everything that [`super::environment::variables`] names into `dir`.
pub fn write(
    dir: &Path,
    ca_pem: &str,
    proxy: &ProxyUrl,
    parent: Lookup<'_>,
    java: Java,
) -> anyhow::Result<ClientFiles> {
    let parent: Lookup<'_> = &not_below(dir, parent);
    let files = ClientFiles {
        bundle: dir.join("bundle.pem"),
        wgetrc: dir.join("wgetrc"),
        php_ini: dir.join("php"),
        truststore: (java == Java::Yes).then(|| dir.join("truststore.p12")),
    };
    write_private(&files.bundle, &bundle(ca_pem, parent)?)?;
    write_private(&files.wgetrc, &wgetrc(&users_wgetrc(parent), proxy, &files.bundle))?;
    fs::create_dir_all(&files.php_ini)?;
    write_private(&files.php_ini.join("countersign.ini"), &php_ini(&files.bundle))?;
    if let Some(truststore) = &files.truststore {
        build_truststore(truststore, ca_pem, parent)?;
    }
    Ok(files)
}

/// `eval "$(countersign env)"` may be run again in the same shell: what it set is not the user's.
fn not_below<'a>(dir: &'a Path, parent: Lookup<'a>) -> impl Fn(&str) -> Option<String> + 'a {
    move |name| parent(name).filter(|value| !Path::new(value).starts_with(dir))
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        // Made with 0600, and renamed so that a client of an earlier `env` never reads half a file.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(text.as_bytes())?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().with_context(|| format!("{} could not be written", path.display()))
}

/// The roots in effect and ours: the variables replace a client's roots, so ours alone would break
/// every host that is tunnelled untouched.
pub fn bundle(ca_pem: &str, parent: Lookup<'_>) -> anyhow::Result<String> {
    let mut seen = HashSet::new();
    let mut out = String::new();
    let ours = CertificateDer::from_pem_slice(ca_pem.as_bytes())
        .map_err(|error| anyhow!("the CA's certificate is no PEM: {error}"))?;
    for root in users_roots(parent).into_iter().chain([ours]) {
        if seen.insert(root.to_vec()) {
            out.push_str(&pem(&root));
        }
    }
    Ok(out)
}

/// The user's `SSL_CERT_FILE` and `SSL_CERT_DIR` in place of the system's roots, as OpenSSL has it,
/// and what the other variables name, which ours are about to replace.
fn users_roots(parent: Lookup<'_>) -> Vec<CertificateDer<'static>> {
    let path = |name: &str| parent(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let (file, dir) = (path("SSL_CERT_FILE"), path("SSL_CERT_DIR"));
    let mut roots = match (&file, &dir) {
        (None, None) => rustls_native_certs::load_native_certs().certs,
        _ => rustls_native_certs::load_certs_from_paths(file.as_deref(), dir.as_deref()).certs,
    };
    for other in CA_VARIABLES.iter().filter(|name| **name != "SSL_CERT_FILE") {
        let Some(file) = path(other).filter(|file| file.is_file()) else { continue };
        roots.extend(rustls_native_certs::load_certs_from_paths(Some(&file), None).certs);
    }
    roots
}

/// One certificate as PEM (RFC 7468).
pub fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out + "-----END CERTIFICATE-----\n"
}

fn users_wgetrc(parent: Lookup<'_>) -> String {
    let path = parent("WGETRC")
        .map(PathBuf::from)
        .or_else(|| parent("HOME").map(|home| Path::new(&home).join(".wgetrc")));
    path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
}

/// The user's own settings first: in a wgetrc the last line wins, and it has no way to include.
fn wgetrc(users: &str, proxy: &ProxyUrl, bundle: &Path) -> String {
    let (url, bundle) = (proxy.to_text(), bundle.display());
    format!(
        "{users}\nca_certificate = {bundle}\nuse_proxy = on\nhttp_proxy = {url}\nhttps_proxy = {url}\n"
    )
}

fn php_ini(bundle: &Path) -> String {
    let bundle = bundle.display();
    format!("curl.cainfo = \"{bundle}\"\nopenssl.cafile = \"{bundle}\"\n")
}

/// A copy of the JDK's roots with ours, because the property replaces them.
fn build_truststore(path: &Path, ca_pem: &str, parent: Lookup<'_>) -> anyhow::Result<()> {
    let home = java_home(parent).ok_or_else(|| {
        anyhow!("no Java found: set JAVA_HOME, or install a JDK (`apt-get install default-jdk`)")
    })?;
    let ca = path.with_extension("pem");
    write_private(&ca, ca_pem)?;
    let _ = fs::remove_file(path);
    let (target, ca) = (path.display().to_string(), ca.display().to_string());
    let cacerts = home.cacerts.display().to_string();
    keytool(
        &home,
        &[
            "-importkeystore",
            "-noprompt",
            "-srckeystore",
            &cacerts,
            "-srcstorepass",
            TRUSTSTORE_PASSWORD,
            "-destkeystore",
            &target,
            "-deststoretype",
            "PKCS12",
            "-deststorepass",
            TRUSTSTORE_PASSWORD,
        ],
    )?;
    keytool(
        &home,
        &[
            "-importcert",
            "-noprompt",
            "-alias",
            "countersign",
            "-file",
            &ca,
            "-keystore",
            &target,
            "-storetype",
            "PKCS12",
            "-storepass",
            TRUSTSTORE_PASSWORD,
        ],
    )
}

/// Where a JDK keeps what we need.
pub struct JavaHome {
    pub keytool: PathBuf,
    pub cacerts: PathBuf,
}

/// The one that `JAVA_HOME` names, else the one whose `keytool` is on the path.
pub fn java_home(parent: Lookup<'_>) -> Option<JavaHome> {
    let named = parent("JAVA_HOME").map(PathBuf::from);
    let on_path = || {
        let keytool = find_on_path("keytool", parent)?.canonicalize().ok()?;
        Some(keytool.parent()?.parent()?.to_owned())
    };
    let home = named.or_else(on_path)?;
    let cacerts = ["lib/security/cacerts", "jre/lib/security/cacerts"]
        .iter()
        .map(|place| home.join(place))
        .find(|path| path.exists())?;
    Some(JavaHome { keytool: home.join("bin/keytool"), cacerts })
}

/// The program that a shell would run.
pub fn find_on_path(program: &str, parent: Lookup<'_>) -> Option<PathBuf> {
    let path = parent("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

fn keytool(home: &JavaHome, args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(&home.keytool)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} could not be run", home.keytool.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    bail!("keytool failed: {}", String::from_utf8_lossy(&said).trim())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::clock::Clock;
    use crate::proxy::ca::{CaSettings, CertificateAuthority};

    const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

    fn ca_pem() -> String {
        let settings = CaSettings {
            permitted: Vec::new(),
            ca_lifetime: HOUR,
            leaf_lifetime: HOUR,
            leaf_cache: 1,
        };
        let dir = tempfile::tempdir().expect("a directory");
        let opened = CertificateAuthority::open_or_create(dir.path(), &settings, &Clock::System);
        opened.expect("a CA").0.pem().to_owned()
    }

    fn proxy() -> ProxyUrl {
        ProxyUrl { address: SocketAddr::from(([127, 0, 0, 1], 43121)), userinfo: None }
    }

    fn count(pem: &str) -> usize {
        pem.matches("BEGIN CERTIFICATE").count()
    }

    #[test]
    fn the_bundle_starts_from_the_users_roots_and_ends_with_ours() {
        let dir = tempfile::tempdir().expect("a directory");
        let (corporate, node, ours) = (ca_pem(), ca_pem(), ca_pem());
        let (file, extra) = (dir.path().join("corp.pem"), dir.path().join("node.pem"));
        fs::write(&file, &corporate).expect("written");
        fs::write(&extra, [node.as_str(), corporate.as_str()].concat()).expect("written");
        let parent = |name: &str| match name {
            "SSL_CERT_FILE" => Some(file.display().to_string()),
            "NODE_EXTRA_CA_CERTS" => Some(extra.display().to_string()),
            "PIP_CERT" => Some("/nowhere/at.all".to_owned()),
            _ => None,
        };
        let bundle = bundle(&ours, &parent).expect("a bundle");
        assert_eq!(count(&bundle), 3, "{bundle}");
        let body = |pem: &str| pem.lines().nth(1).map(str::to_owned).expect("a body");
        for pem in [&corporate, &node, &ours] {
            assert!(bundle.contains(&body(pem)));
        }
        assert!(bundle.ends_with(&ours.replace("\r\n", "\n")), "ours is last");
    }

    #[test]
    fn settings_for_wget_and_php_name_the_bundle() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(".wgetrc"), "timeout = 5\nca_certificate = /old")
            .expect("written");
        let home = dir.path().display().to_string();
        let empty = dir.path().join("empty.pem").display().to_string();
        fs::write(&empty, "").expect("written");
        let parent = |name: &str| match name {
            "HOME" => Some(home.clone()),
            "SSL_CERT_FILE" => Some(empty.clone()),
            _ => None,
        };
        let ours = dir.path().join("client");
        fs::create_dir(&ours).expect("made");
        let files = write(&ours, &ca_pem(), &proxy(), &parent, Java::No).expect("files");
        let bundle = files.bundle.display().to_string();
        let wgetrc = fs::read_to_string(&files.wgetrc).expect("there");
        assert!(wgetrc.starts_with("timeout = 5\n"), "{wgetrc}");
        let last = wgetrc.rfind("ca_certificate = ").expect("there");
        assert!(wgetrc[last..].starts_with(&format!("ca_certificate = {bundle}\n")), "{wgetrc}");
        let ini = fs::read_to_string(files.php_ini.join("countersign.ini")).expect("there");
        assert!(ini.contains(&format!("curl.cainfo = \"{bundle}\"")), "{ini}");
        assert_eq!(count(&fs::read_to_string(&files.bundle).expect("there")), 1);

        let again = |name: &str| match name {
            "WGETRC" => Some(files.wgetrc.display().to_string()),
            _ => parent(name),
        };
        write(&ours, &ca_pem(), &proxy(), &again, Java::No).expect("files");
        assert_eq!(count(&fs::read_to_string(&files.bundle).expect("there")), 1);
        let twice = fs::read_to_string(&files.wgetrc).expect("there");
        assert_eq!(twice.matches("use_proxy").count(), 1, "{twice}");
    }

    #[test]
    fn javas_trust_store_has_its_own_roots_and_ours() {
        let path = std::env::var("PATH").ok();
        let dir = tempfile::tempdir().expect("a directory");
        let parent = |name: &str| path.clone().filter(|_| name == "PATH");
        let Some(home) = java_home(&parent) else {
            eprintln!("skipped: no keytool is installed");
            return;
        };
        let store = dir.path().join("truststore.p12");
        build_truststore(&store, &ca_pem(), &parent).expect("built");
        let shown = store.display().to_string();
        let listed = Command::new(&home.keytool)
            .args(["-list", "-keystore", &shown, "-storepass", TRUSTSTORE_PASSWORD])
            .output()
            .expect("keytool runs");
        let text = String::from_utf8_lossy(&listed.stdout);
        assert!(text.contains("countersign,") && text.contains("PKCS12"), "{text}");
        assert!(text.matches("trustedCertEntry").count() > 50, "{text}");
    }
}

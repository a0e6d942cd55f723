//! `countersign env`: the variables of `run`, for a shell or a file, with a running proxy.
//!
//! Touches the `client` directory in the data directory, where the files that variables name stay.

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;

use super::client_files::{self, Java};
use super::environment::{self, Lookup, ProxyUrl, Shell};

/// Print the variables that make clients use the proxy: eval "$(countersign env)"
#[derive(Clone, Debug, clap::Args)]
pub struct EnvArgs {
    /// The caller to send requests as; may be left out when the configuration has one only
    #[arg(long, value_name = "NAME")]
    pub caller: Option<String>,
    /// How to write them [default: as $SHELL wants it]
    #[arg(long, value_enum)]
    pub shell: Option<Shell>,
}

/// Writes the files and prints the variables.
pub fn run(
    args: &EnvArgs,
    proxy: &ProxyUrl,
    ca_pem: &str,
    data_dir: &Path,
    parent: Lookup<'_>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let dir = data_dir.join("client");
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("{} could not be made", dir.display()))?;
    let files = client_files::write(&dir, ca_pem, proxy, parent, Java::No)?;
    let variables = environment::variables(proxy, &files, parent);
    let shell = args.shell.unwrap_or_else(|| users_shell(parent));
    out.write_all(environment::render(shell, &variables)?.as_bytes())?;
    Ok(())
}

fn users_shell(parent: Lookup<'_>) -> Shell {
    match parent("SHELL") {
        Some(path) if path.ends_with("/fish") => Shell::Fish,
        Some(path) if path.ends_with("/pwsh") => Shell::Pwsh,
        None if cfg!(windows) => Shell::Pwsh,
        _ => Shell::Bash,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn the_users_shell_is_recognized_by_its_path() {
        for (path, shell) in [
            ("/usr/bin/fish", Shell::Fish),
            ("/usr/bin/pwsh", Shell::Pwsh),
            ("/bin/zsh", Shell::Bash),
            ("/bin/bash", Shell::Bash),
        ] {
            assert_eq!(users_shell(&|_| Some(path.to_owned())), shell);
        }
    }

    #[test]
    fn what_is_printed_names_files_that_stay_and_no_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = crate::proxy::ca::CaSettings {
            permitted: Vec::new(),
            ca_lifetime: std::time::Duration::from_secs(3600),
            leaf_lifetime: std::time::Duration::from_secs(3600),
            leaf_cache: 1,
        };
        let clock = crate::clock::Clock::System;
        let ca =
            crate::proxy::ca::CertificateAuthority::open_or_create(dir.path(), &settings, &clock);
        let ca = ca.expect("a CA").0;
        let address = SocketAddr::from(([127, 0, 0, 1], 3128));
        let userinfo = Some("flow:t0ken".to_owned().into());
        let args = EnvArgs { caller: None, shell: Some(Shell::Bash) };
        let mut out = Vec::new();
        let proxy = ProxyUrl { address, userinfo };
        run(&args, &proxy, ca.pem(), dir.path(), &|_| None, &mut out).expect("printed");
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains("export https_proxy='http://flow:t0ken@127.0.0.1:3128'\n"), "{text}");
        let bundle = dir.path().join("client/bundle.pem");
        assert!(text.contains(&format!("export SSL_CERT_FILE='{}'\n", bundle.display())), "{text}");
        assert!(bundle.is_file() && !text.contains("COUNTERSIGN_RUN"), "{text}");
    }
}

//! What is allowed, but worth a second look.

use super::{Account, Config, Mistake, Place, SecretRef, Token};

impl Config {
    /// Everything that works and may still not be meant. `mode` is that of the config file.
    pub fn warnings(&self, mode: Option<u32>) -> Vec<Mistake> {
        let mut found = Vec::new();
        let mut warn = |key: &str, text: String| {
            let file =
                self.file.as_ref().map_or("config".into(), |file| file.display().to_string());
            found.push(Mistake::new(file, None, key, text).warning());
        };
        if let (Some(key), Some(mode)) = (self.inline_secret(), readable_by_others(mode)) {
            warn(
                &key,
                format!(
                    "this secret stands in a file that others can read (mode {mode:03o}): chmod 600 it, \
                 or name the secret by reference"
                ),
            );
        }
        for listen in self.proxy.listen.iter().filter(|at| !at.ip().is_loopback()) {
            warn(
                "proxy.listen",
                format!(
                    "{listen} can be reached from other machines, and callers' tokens travel there in \
                 clear text: use proxy.tls_listen"
                ),
            );
        }
        for account in self.accounts.iter().filter(|account| self.is_clear_text(account)) {
            warn(
                &format!("accounts.{}", account.name),
                format!(
                    "{} is reached over http://, so the credential travels in clear text",
                    account.app
                ),
            );
        }
        for caller in self.callers.iter().filter(|c| c.tokens.is_empty() && c.certificate.is_none())
        {
            warn(
                &format!("callers.{}", caller.id),
                "no token and no certificate: only `countersign run` can be this caller".to_owned(),
            );
        }
        if self.proxy.tls.as_ref().and_then(|tls| tls.client_ca.as_ref()).is_none() {
            for caller in self.callers.iter().filter(|caller| caller.certificate.is_some()) {
                warn(
                    &format!("callers.{}.certificate", caller.id),
                    "no certificate is ever asked for: set proxy.tls.client_ca".to_owned(),
                );
            }
        }
        found
    }

    /// The key of the first secret that is written into the file.
    fn inline_secret(&self) -> Option<String> {
        let is_inline = |secret: &SecretRef| matches!(secret.place, Place::Inline(_));
        let of_account = |account: &Account| {
            let (name, _) = account.secrets.iter().find(|(_, secret)| is_inline(secret))?;
            Some(format!("accounts.{}.secrets.{name}", account.name))
        };
        let of_caller = |caller: &super::Caller| {
            let inline =
                |token: &Token| matches!(token, Token::Reference(secret) if is_inline(secret));
            caller.tokens.iter().any(inline).then(|| format!("callers.{}.token", caller.id))
        };
        let parent = self.upstream.proxy.as_ref().and_then(|proxy| proxy.credentials.as_ref());
        self.accounts
            .iter()
            .find_map(of_account)
            .or_else(|| self.callers.iter().find_map(of_caller))
            .or_else(|| {
                parent.filter(|s| is_inline(s)).map(|_| "upstream.proxy.credentials".to_owned())
            })
    }

    fn is_clear_text(&self, account: &Account) -> bool {
        account.origins(&self.catalog).iter().any(|origin| origin.clear_text)
    }
}

fn readable_by_others(mode: Option<u32>) -> Option<u32> {
    mode.map(|mode| mode & 0o777).filter(|mode| mode & 0o077 != 0)
}

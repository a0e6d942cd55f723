//! Links by which the owner of a dead account connects it anew. Signed, so that only refusals of
//! ours lead there, and short-lived. A link begins a consent and gives nothing by itself: the account
//! takes only a grant of the identity that it had.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;

use crate::clock::unix_ms;
use crate::ids::AccountId;
use crate::secret::{Secret, hex};

/// A refusal is read soon, and the next one has a fresh link.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Makes and reads the links of one installation.
pub struct Links {
    /// Where the pages are, without a slash at the end.
    base: String,
    key: hmac::Key,
}

impl Links {
    pub fn new(base: &str, key: &Secret) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            key: hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes()),
        }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn reconnect(&self, account: &AccountId, now: SystemTime) -> String {
        let signed = format!("{account}.{}", unix_ms(now + LIFE) / 1000);
        format!("{}/connect/reconnect?ticket={signed}.{}", self.base, self.seal(&signed))
    }

    /// The account of a ticket that is ours and has not ended.
    pub fn account(&self, ticket: &str, now: SystemTime) -> Option<AccountId> {
        let (signed, seal) = ticket.rsplit_once('.')?;
        if !Secret::from(self.seal(signed)).same_as(&Secret::from(seal.to_owned())) {
            return None;
        }
        let (account, until) = signed.rsplit_once('.')?;
        let until = UNIX_EPOCH + Duration::from_secs(until.parse().ok()?);
        if until <= now { None } else { account.parse().ok() }
    }

    fn seal(&self, signed: &str) -> String {
        hex(hmac::sign(&self.key, format!("reconnect {signed}").as_bytes()).as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_link_of_ours_that_has_not_ended_names_an_account() {
        let links = Links::new("https://cs.test/", &Secret::from("key".to_owned()));
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let link = links.reconnect(&"apn_1".parse().expect("an id"), now);
        let ticket = link.strip_prefix("https://cs.test/connect/reconnect?ticket=").expect(&link);
        let named = |ticket: &str, at| links.account(ticket, at).map(|id| id.to_string());
        assert_eq!(named(ticket, now).as_deref(), Some("apn_1"));
        assert_eq!(named(ticket, now + LIFE), None);
        assert_eq!(named(&ticket.replace("apn_1", "apn_2"), now), None);
        for bad in ["", ".", "..", "apn_1", "apn_1.9999999999.", "apn_1.9999999999.00"] {
            assert_eq!(named(bad, now), None, "{bad}");
        }
        let other = Links::new("https://cs.test", &Secret::from("other".to_owned()));
        assert_eq!(other.account(ticket, now), None);
    }
}

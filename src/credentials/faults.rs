//! OAuth clients that a provider does not know, or no longer: one account's refresh finds out, and
//! the others do not ask the same again. Providers lock out a client whose ten thousand accounts
//! all come with a secret that is wrong.

use std::collections::HashMap;
use std::time::Duration;

use crate::ids::OAuthClientId;
use crate::oauth::{Class, TokenError};

/// People have to mend it: until they do, one look now and then.
pub(super) const PAUSE: Duration = Duration::from_secs(5 * 60);

/// Only these are about the client alone. An `invalid_scope` may be one account's, which must not
/// stop all others.
const ABOUT_THE_CLIENT: [&str; 2] = ["invalid_client", "unauthorized_client"];

#[derive(Default)]
pub(super) struct Faults(HashMap<OAuthClientId, Fault>);

struct Fault {
    code: String,
    message: String,
    /// As uptime.
    until: Duration,
}

impl Faults {
    /// What every account of this client would be told at present.
    pub(super) fn of(&self, client: &OAuthClientId, uptime: Duration) -> Option<TokenError> {
        let fault = self.0.get(client).filter(|fault| uptime < fault.until)?;
        Some(TokenError {
            class: Class::Client,
            code: fault.code.clone(),
            message: fault.message.clone(),
            status: None,
            retry_after: Some(fault.until.saturating_sub(uptime)),
            sent: false,
        })
    }

    pub(super) fn note(&mut self, client: &OAuthClientId, error: &TokenError, uptime: Duration) {
        let (code, message) = (error.code.clone(), error.message.clone());
        if error.class == Class::Client && ABOUT_THE_CLIENT.contains(&code.as_str()) {
            self.0.insert(client.clone(), Fault { code, message, until: uptime + PAUSE });
        }
    }

    /// It was changed, so it may be right now.
    pub(super) fn forget(&mut self, client: &OAuthClientId) {
        self.0.remove(client);
    }

    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str) -> TokenError {
        let (class, code) = (Class::Client, code.to_owned());
        TokenError {
            class,
            code,
            message: String::new(),
            status: None,
            retry_after: None,
            sent: true,
        }
    }

    #[test]
    fn a_client_that_is_refused_is_not_tried_for_a_while_and_one_accounts_fault_is_its_own() {
        let client: OAuthClientId = "oa_0123456".parse().expect("an id");
        let mut faults = Faults::default();
        faults.note(&client, &error("invalid_scope"), Duration::ZERO);
        assert!(faults.of(&client, Duration::ZERO).is_none());
        faults.note(&client, &error("invalid_client"), Duration::ZERO);
        let told = faults.of(&client, Duration::from_secs(60)).expect("is refused");
        assert_eq!((told.code.as_str(), told.sent), ("invalid_client", false));
        assert_eq!(told.retry_after, Some(PAUSE - Duration::from_secs(60)));
        assert!(faults.of(&client, PAUSE).is_none());
        faults.forget(&client);
        assert!(faults.of(&client, Duration::ZERO).is_none());
    }
}

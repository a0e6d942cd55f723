//! What is told when an account's state changes: the audit, the log, the operator's webhook.

use super::keeper::{Keeper, Record};
use crate::clock::rfc3339;
use crate::telemetry::{AccountChange, AuditEvent};
use crate::vault::Account;

impl Keeper {
    /// Tells of an account's change of state.
    pub fn changed(&self, account: &Account, change: AccountChange, detail: &str) {
        match &self.record {
            Record::Audit { .. } => self.telemetry.event(&AuditEvent::AccountChanged {
                app: &account.app,
                account: account.named(),
                change,
                detail,
            }),
            Record::Notes { by } => self.leave_note(account, change, detail, by.clone()),
        }
        self.queue_webhook(account, change, detail);
        let (account, change) = (&account.nickname, change.as_str());
        tracing::info!(%account, change, detail, "account");
    }

    fn queue_webhook(&self, account: &Account, change: AccountChange, detail: &str) {
        let event = match change {
            AccountChange::Unhealthy => "CONNECTION_UNHEALTHY",
            AccountChange::Dead => "CONNECTION_DEAD",
            AccountChange::Recovered => "CONNECTION_RECOVERED",
            _ => return,
        };
        let Some(url) = self.webhook.clone() else { return };
        let body = serde_json::json!({
            "event": event,
            "at": rfc3339(self.clock.now()),
            "account": {
                "id": account.id,
                "name": account.nickname,
                "app": account.app,
                "healthy": change == AccountChange::Recovered,
                "dead": change == AccountChange::Dead,
                "error": Some(detail).filter(|detail| !detail.is_empty()),
            },
        });
        let vault = self.vault.clone();
        self.tasks.spawn(async move {
            if let Err(error) = vault.queue_webhook(&url, event, &body.to_string(), None).await {
                tracing::error!(%error, event, "a webhook could not be queued");
            }
        });
    }

    /// The file of the audit belongs to the server, which takes the note into it.
    fn leave_note(&self, account: &Account, change: AccountChange, detail: &str, by: String) {
        let what = format!("account_{}", change.as_str());
        let (id, name) = (account.id.clone(), account.nickname.clone());
        let detail = told(account, detail);
        let vault = self.vault.clone();
        self.tasks.spawn(async move {
            if let Err(error) = vault.note_about(&id, &what, name.as_str(), &detail, &by).await {
                tracing::error!(%error, what, "a note for the audit could not be left");
            }
        });
    }
}

fn told(account: &Account, detail: &str) -> String {
    let gap = if detail.is_empty() { "" } else { ": " };
    format!("{}{gap}{detail}", account.id)
}

//! The page that the refusal of a dead account leads to. Its ticket is signed and begins a consent;
//! the account takes only a grant of the identity that it had.

use http::{Response, StatusCode};

use super::Connect;
use super::request::Asking;
use crate::connect::{self, SameIdentity, Way};
use crate::forward::Body;
use crate::vault::Account;
use crate::web::flow::{Flow, Purpose};
use crate::web::html::{Button, Message, Policy};

/// What the person is told.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("This link is not valid, or has ended. The next refused request has a fresh one.")]
    Link,
    #[error("This account was deleted.")]
    Gone,
    #[error("This account is connected from the terminal: countersign accounts reconnect {name}")]
    Terminal { name: String },
    #[error(
        "This page was opened twice, took too long, or was not opened from here. Nothing was \
         connected; open the link again."
    )]
    State,
    #[error("{0}")]
    Connect(#[from] connect::Error),
    #[error("The store is not available at the moment; try again.")]
    Store(#[from] crate::vault::Error),
}

impl Connect {
    pub(super) async fn ask_by_ticket(&self, asking: &Asking) -> Response<Body> {
        self.ask(asking).await.unwrap_or_else(|trouble| trouble.told())
    }

    pub(super) async fn start_by_ticket(&self, asking: &Asking) -> Response<Body> {
        self.start(asking).await.unwrap_or_else(|trouble| trouble.told())
    }

    async fn account_of(&self, asking: &Asking) -> Result<Account, Trouble> {
        let ticket = asking.pairs.get("ticket").map(String::as_str).unwrap_or_default();
        let id = self.links.account(ticket, self.now()).ok_or(Trouble::Link)?;
        self.vault().account(&id).await?.ok_or(Trouble::Gone)
    }

    async fn ask(&self, asking: &Asking) -> Result<Response<Body>, Trouble> {
        let account = self.account_of(asking).await?;
        let app = self.keeper.catalog().app(account.app.as_str()).map(|app| app.name.clone());
        let app = app.unwrap_or_else(|| account.app.to_string());
        let who = account.identity.as_deref().unwrap_or_default();
        let text = format!(
            "The account “{}” does not work any more. Connect it anew, signed in at {app} as {who}.",
            account.nickname
        );
        let label = format!("Continue to {app}");
        let ticket = asking.pairs.get("ticket").map(String::as_str).unwrap_or_default();
        let button = Button { action: "start", name: "ticket", value: ticket, label: &label };
        let title = format!("Connect {app} anew");
        let page =
            Message { title: &title, text: &text, button: Some(button), clean_address: false };
        // The form leads here, and from here to the provider.
        let policy = Policy {
            forms: vec!["https:".to_owned(), "http://127.0.0.1:*".to_owned()],
            ..Policy::default()
        };
        Ok(page.answer(StatusCode::OK, &policy))
    }

    /// Off to the provider.
    async fn start(&self, asking: &Asking) -> Result<Response<Body>, Trouble> {
        let account = self.account_of(asking).await?;
        let wish = connect::again(&self.keeper, &account, SameIdentity::Required).await?;
        if wish.app.auth(&wish.auth).map(Way::of) != Some(Way::Browser) {
            return Err(Trouble::Terminal { name: account.nickname.to_string() });
        }
        let purpose = Purpose::Ticket { account: account.id.to_string() };
        Ok(self.depart(asking, &wish, purpose, None).await?)
    }

    /// Back from the provider.
    pub(super) async fn finish_by_ticket(
        &self,
        account: &str,
        flow: &Flow,
    ) -> Result<Response<Body>, Trouble> {
        let id = account.parse().map_err(|_| Trouble::State)?;
        let account = self.vault().account(&id).await?.ok_or(Trouble::Gone)?;
        let wish = connect::again(&self.keeper, &account, SameIdentity::Required).await?;
        let connected = self.connector.exchange(&wish, &flow.callback).await?;
        let (name, id) = (connected.account.nickname.as_str(), &connected.account.id);
        let by = "browser, by a refusal's link";
        self.vault().note_about(id, "account_reconnected", name, id.as_str(), by).await?;
        let text = format!("{} works again as “{name}”. You may close this page.", wish.app.name);
        Ok(told("Connected", &text, StatusCode::OK))
    }
}

impl Trouble {
    pub(super) fn told(&self) -> Response<Body> {
        let status = match self {
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Gone => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_REQUEST,
        };
        told("Not connected", &self.to_string(), status)
    }
}

fn told(title: &str, text: &str, status: StatusCode) -> Response<Body> {
    Message { title, text, button: None, clean_address: true }.answer(status, &Policy::default())
}

//! Back from a provider, as a member.

use std::collections::BTreeMap;

use http::{Method, Response};
use serde::{Deserialize, Serialize};

use super::super::form::Form;
use super::super::visit::{Flash, Visit};
use super::super::{Trouble, Workspace};
use super::{done, sentence};
use crate::connect::{self, SameIdentity, Wish};
use crate::forward::Body;
use crate::policy::access::Operation;
use crate::secret::Secret;
use crate::vault::{Member, Owner};
use crate::web::flow::{CALLBACK, Flow, Purpose, Stray};

/// What a member's flow has to find again.
#[derive(Serialize, Deserialize)]
pub struct OfMember {
    member: String,
    app: String,
    auth: String,
    oauth_client: Option<String>,
    nickname: Option<String>,
    /// The account that is reconnected.
    account: Option<String>,
    scopes: Vec<String>,
}

impl OfMember {
    pub fn of(member: &Member, wish: &Wish) -> Self {
        Self {
            member: member.id.to_string(),
            app: wish.app.id.to_string(),
            auth: wish.auth.clone(),
            oauth_client: wish.client.as_ref().map(|client| client.record.id.to_string()),
            nickname: wish.nickname.as_ref().map(ToString::to_string),
            account: wish.reconnect.as_ref().map(|account| account.id.to_string()),
            scopes: wish.scopes.clone(),
        }
    }

    pub fn is_of(&self, member: &Member) -> bool {
        self.member == member.id.as_str()
    }

    pub fn app(&self) -> &str {
        &self.app
    }

    /// Where it began.
    pub fn page(&self) -> String {
        match &self.account {
            Some(account) => format!("/accounts/{account}/reconnect"),
            None => format!("/accounts/connect/{}?auth={}", self.app, self.auth),
        }
    }

    /// What was wished for, if the member may still have it.
    ///
    /// # Errors
    /// When the account may not be reconnected any more, or the app has gone.
    pub async fn wish(
        &self,
        visit: &Visit<'_>,
        entered: BTreeMap<String, Secret>,
    ) -> Result<Wish, Trouble> {
        let keeper = &visit.workspace.keeper;
        let client = match self.oauth_client.as_ref().and_then(|id| id.parse().ok()) {
            Some(id) => keeper.client(&id).await?,
            None => None,
        };
        if let Some(id) = &self.account {
            // Asked again: the account may have been given away meanwhile.
            let account = visit.account(id, Operation::Reconnect).await?;
            let wish = connect::again(keeper, &account, SameIdentity::IfKnown).await?;
            return Ok(Wish { entered, client, scopes: self.scopes.clone(), ..wish });
        }
        let app = keeper.catalog().app(self.app.as_str()).cloned().ok_or(Trouble::NotFound)?;
        Ok(Wish {
            app,
            auth: self.auth.clone(),
            client,
            preset: None,
            entered,
            scopes: self.scopes.clone(),
            owner: Owner::Member(visit.member().id.clone()),
            nickname: self.nickname.as_ref().and_then(|name| name.parse().ok()),
            reconnect: None,
            same_identity: SameIdentity::IfKnown,
        })
    }
}

/// Whether a callback ends a flow that a member began.
pub async fn is_our_callback(workspace: &Workspace, method: &Method, path: &str, q: &str) -> bool {
    if path != CALLBACK || *method != Method::GET {
        return false;
    }
    let returned = returned(&Form::parse(q.as_bytes()));
    let waiting = workspace.flows().waiting(&returned).await;
    waiting.is_ok_and(|waiting| matches!(waiting.purpose(), Purpose::Member(_)))
}

fn returned(query: &Form) -> BTreeMap<String, String> {
    query.pairs().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The flow that came back to this member.
async fn take(visit: &Visit<'_>) -> Result<Flow, Stray> {
    let (flows, returned) = (visit.workspace.flows(), returned(&visit.query));
    let waiting = flows.waiting(&returned).await?;
    flows.take(waiting, &visit.headers, &returned).await
}

pub async fn finish(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let stale = || {
        Trouble::Bad(
            "This page was opened twice, took too long, or was not opened from here. Nothing was \
             connected; begin again."
                .to_owned(),
        )
    };
    let flow = match take(visit).await {
        Ok(flow) => flow,
        Err(Stray::Store(error)) => return Err(error.into()),
        Err(_) => return Err(stale()),
    };
    let of = match &flow.purpose {
        Purpose::Member(of) if of.is_of(visit.member()) => of,
        _ => return Err(stale()),
    };
    let wish = of.wish(visit, flow.entered()).await?;
    match visit.workspace.connector.exchange(&wish, &flow.callback).await {
        Ok(connected) => Ok(done(visit, &wish, &connected)),
        Err(error @ connect::Error::Store(_)) => Err(error.into()),
        Err(error) => {
            let said = match &error {
                connect::Error::Provider(said) => format!("{} says: {said}", wish.app.name),
                other => sentence(other),
            };
            let text = format!("Nothing was connected. {said}");
            Ok(visit.go(&of.page(), Some(Flash::warning(text))))
        }
    }
}

//! Making a caller, and the one page that shows its token.

use std::net::SocketAddr;

use askama::Template;
use http::Response;
use http::header::HOST;

use super::super::Trouble;
use super::super::shell::{Section, Shell};
use super::super::visit::Visit;
use super::howto::{Howto, Place};
use super::view::{Face, Ledger};
use crate::config::duration;
use crate::connect::callers::{self, CallerError, Grant};
use crate::forward::Body;
use crate::ids::CallerId;
use crate::secret::Secret;
use crate::vault::{Account, CallerDetails};

#[derive(Template)]
#[template(path = "workspace/caller_new.html")]
struct NewPage<'a> {
    shell: Shell<'a>,
    accounts: Vec<Choice>,
    /// What was entered, to be mended.
    name: &'a str,
    description: &'a str,
    rate: &'a str,
    concurrent: &'a str,
    lifetime: &'a str,
    allow: &'a str,
    deny: &'a str,
    report: bool,
    error: Option<String>,
}

/// An account that may be bound.
pub struct Choice {
    pub id: String,
    pub name: String,
    pub identity: String,
    pub face: Face,
    pub chosen: bool,
}

impl Choice {
    pub fn of(ledger: &Ledger, account: &Account, chosen: bool) -> Self {
        let app = account.app.as_str();
        Self {
            id: account.id.to_string(),
            name: account.nickname.to_string(),
            identity: account.identity.clone().unwrap_or_default(),
            face: Face::of(app, ledger.app_name(app)),
            chosen,
        }
    }
}

/// What a life may be chosen as.
pub const LIVES: [(&str, &str); 6] = [
    ("", "No end"),
    ("1d", "1 day"),
    ("7d", "7 days"),
    ("30d", "30 days"),
    ("90d", "90 days"),
    ("365d", "1 year"),
];

impl NewPage<'_> {
    fn lives(&self) -> &'static [(&'static str, &'static str)] {
        &LIVES
    }
}

pub(super) async fn create(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let ledger = Ledger::read(visit).await?;
    if !visit.is_post() {
        return Ok(visit.page(&page(visit, &ledger, None)));
    }
    match try_to_create(visit, &ledger).await {
        Ok((name, token)) => Ok(show_token(visit, &name, &token, Occasion::New)),
        Err(trouble) => {
            let why = trouble.on_form()?;
            Ok(visit.refused(&page(visit, &ledger, Some(why))))
        }
    }
}

async fn try_to_create(visit: &Visit<'_>, ledger: &Ledger) -> Result<(CallerId, Secret), Trouble> {
    let form = &visit.form;
    let name: CallerId =
        form.text("name").parse().map_err(|invalid| Trouble::Bad(format!("{invalid}")))?;
    if ledger.is_taken(&name) {
        return Err(Trouble::Bad(format!("There is a caller called {name} already.")));
    }
    let wanted: Vec<&str> = form.all("account").collect();
    let accounts: Vec<Account> = ledger
        .bindable()
        .into_iter()
        .filter(|account| wanted.contains(&account.id.as_str()))
        .cloned()
        .collect();
    if accounts.len() != wanted.len() {
        return Err(Trouble::Bad("One of those accounts is not yours to use.".to_owned()));
    }
    let lifetime = form.said("lifetime").map(duration).transpose().map_err(Trouble::Bad)?;
    let details = CallerDetails {
        description: form.text("description").chars().take(MAX_DESCRIPTION).collect(),
        mode: form.has("report").then(|| "report".to_owned()),
        rate: form.said("rate").map(str::to_owned),
        max_concurrent: concurrent(form.text("concurrent"))?,
        rules: String::new(),
        expires_at: lifetime.map(|lifetime| visit.now() + lifetime),
    };
    let grant = grant(visit);
    let by = Some(&visit.member().id);
    let vault = visit.vault();
    let token = callers::create(vault, &name, &details, &accounts, &grant, by).await;
    let token = token.map_err(said)?;
    visit.audit("caller_added", name.as_str(), &details.description);
    for account in &accounts {
        visit.audit_of(&account.id, "account_bound", name.as_str(), account.nickname.as_str());
    }
    Ok((name, token))
}

pub const MAX_DESCRIPTION: usize = 500;

/// # Errors
/// When it is no number from 1.
pub fn concurrent(text: &str) -> Result<Option<u32>, Trouble> {
    match text {
        "" => Ok(None),
        text => match text.parse() {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(Trouble::Bad("Requests at once are a number from 1, or nothing.".to_owned())),
        },
    }
}

/// What may be done with the accounts, one line each.
pub fn grant(visit: &Visit<'_>) -> Grant {
    let lines = |name: &str| -> Vec<String> {
        let lines = visit.form.raw(name).lines().map(str::trim);
        lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    Grant { allow: lines("allow"), deny: lines("deny") }
}

/// What was entered wrongly is said on the form.
pub fn said(error: CallerError) -> Trouble {
    error.into()
}

fn page<'a>(visit: &'a Visit<'_>, ledger: &Ledger, error: Option<String>) -> NewPage<'a> {
    let form = &visit.form;
    let wanted: Vec<&str> = form.all("account").chain(visit.query.all("account")).collect();
    let choice =
        |account: &Account| Choice::of(ledger, account, wanted.contains(&account.id.as_str()));
    NewPage {
        shell: visit.shell(Section::Callers, "Create a caller"),
        accounts: ledger.bindable().into_iter().map(choice).collect(),
        name: form.text("name"),
        description: form.text("description"),
        rate: form.text("rate"),
        concurrent: form.text("concurrent"),
        lifetime: form.text("lifetime"),
        allow: form.raw("allow"),
        deny: form.raw("deny"),
        report: form.has("report"),
        error,
    }
}

/// Why a token is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    New,
    Rotated,
}

#[derive(Template)]
#[template(path = "workspace/caller_token.html")]
struct TokenPage<'a> {
    shell: Shell<'a>,
    name: &'a str,
    token: &'a str,
    new: bool,
    ways: Vec<Howto>,
}

/// The only page on which a token ever stands.
pub fn show_token(
    visit: &Visit<'_>,
    name: &CallerId,
    token: &Secret,
    occasion: Occasion,
) -> Response<Body> {
    let workspace = visit.workspace;
    let visited = visit.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let usual = SocketAddr::from(([127, 0, 0, 1], 3128));
    let place = Place {
        caller: name,
        token: token.expose(),
        proxy: workspace.around.proxy.unwrap_or(usual),
        visited: without_port(visited),
        base: &workspace.base,
    };
    let title = match occasion {
        Occasion::New => format!("{name} is ready"),
        Occasion::Rotated => format!("A new token for {name}"),
    };
    visit.page(&TokenPage {
        shell: visit.shell(Section::Callers, &title),
        name: name.as_str(),
        token: token.expose(),
        new: occasion == Occasion::New,
        ways: place.all(),
    })
}

/// `Host` was checked before any page is shown.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

//! One request of a member: who, what they ask for, and how they are answered.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};

use super::form::Form;
use super::session::{LoggedIn, same};
use super::shell::{Section, Shell, Theme};
use super::upload::Upload;
use super::{Trouble, Workspace};
use crate::forward::Body;
use crate::ids::AccountId;
use crate::policy::access::{Operation, may};
use crate::telemetry::AuditEvent;
use crate::vault::{Account, Member, Shares, Vault};
use crate::web::browser::{append_cookie, cookie, see_other};
use crate::web::html::{self, Policy};

/// A message for the next page, in a cookie that is sealed to the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flash {
    pub kind: FlashKind,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlashKind {
    Done,
    Warning,
}

impl Flash {
    pub fn done(text: impl Into<String>) -> Self {
        Self { kind: FlashKind::Done, text: text.into() }
    }

    pub fn warning(text: impl Into<String>) -> Self {
        Self { kind: FlashKind::Warning, text: text.into() }
    }

    pub fn is_warning(&self) -> bool {
        self.kind == FlashKind::Warning
    }
}

/// Cookies are for little.
const MAX_FLASH_CHARS: usize = 600;
const FLASH_LIFE: Duration = Duration::from_secs(120);

pub struct Visit<'w> {
    pub workspace: &'w Workspace,
    pub who: LoggedIn,
    pub method: Method,
    pub headers: HeaderMap,
    /// Path and query.
    pub address: String,
    pub query: Form,
    /// Of a POST; its token has been checked.
    pub form: Form,
    /// Files that came with it.
    pub uploads: Vec<Upload>,
    pub peer: IpAddr,
    flash: Option<Flash>,
}

impl<'w> Visit<'w> {
    pub(super) fn new(
        workspace: &'w Workspace,
        who: LoggedIn,
        peer: IpAddr,
        parts: &Parts,
        form: Form,
    ) -> Self {
        let address = parts.uri.path_and_query().map_or("/", |address| address.as_str());
        let query = Form::parse(parts.uri.query().unwrap_or_default().as_bytes());
        let flash = read_flash(workspace, &who, &parts.headers);
        Self {
            workspace,
            who,
            method: parts.method.clone(),
            headers: parts.headers.clone(),
            address: address.to_owned(),
            query,
            form,
            uploads: Vec::new(),
            peer,
            flash,
        }
    }

    pub(super) fn bringing(self, uploads: Vec<Upload>) -> Self {
        Self { uploads, ..self }
    }

    pub fn vault(&self) -> &'w Vault {
        self.workspace.vault()
    }

    pub fn member(&self) -> &Member {
        &self.who.member
    }

    pub fn now(&self) -> SystemTime {
        self.workspace.now()
    }

    pub fn is_post(&self) -> bool {
        self.method == Method::POST
    }

    /// The frame of a page.
    pub fn shell<'a>(&'a self, section: Section, title: &'a str) -> Shell<'a> {
        Shell {
            title,
            section,
            member: self.member(),
            csrf: &self.who.csrf,
            flash: self.flash.as_ref(),
            theme: Theme::of(self.workspace, &self.headers),
            address: &self.address,
        }
    }

    pub fn page(&self, page: &impl Template) -> Response<Body> {
        self.page_with(StatusCode::OK, page, Policy::default())
    }

    /// The same, for a form that was not taken.
    pub fn refused(&self, page: &impl Template) -> Response<Body> {
        self.page_with(StatusCode::UNPROCESSABLE_ENTITY, page, Policy::default())
    }

    pub fn page_with(
        &self,
        status: StatusCode,
        page: &impl Template,
        policy: Policy,
    ) -> Response<Body> {
        let mut response = html::page(status, page, &Policy { tells_origin: true, ..policy });
        if self.flash.is_some() {
            let gone = self.workspace.set_cookie("flash", "", Some(Duration::ZERO));
            append_cookie(&mut response, &gone);
        }
        response
    }

    /// On to another page, which shows the message.
    pub fn go(&self, path: &str, flash: Option<Flash>) -> Response<Body> {
        let mut response = see_other(path);
        if let Some(flash) = flash {
            let value = write_flash(self.workspace, &self.who, &flash);
            append_cookie(
                &mut response,
                &self.workspace.set_cookie("flash", &value, Some(FLASH_LIFE)),
            );
        }
        response
    }

    pub fn done(&self, path: &str, text: impl Into<String>) -> Response<Body> {
        self.go(path, Some(Flash::done(text)))
    }

    /// Writes what the member did into the audit: `what` from a closed set, such as
    /// `account_renamed`; `subject` by name.
    pub fn audit(&self, what: &'static str, subject: &str, detail: &str) {
        self.audit_deed(None, what, subject, detail);
    }

    /// The same, of something that was done with an account: who may not see it does not read of it.
    pub fn audit_of(&self, account: &AccountId, what: &'static str, subject: &str, detail: &str) {
        self.audit_deed(Some(account), what, subject, detail);
    }

    fn audit_deed(
        &self,
        account: Option<&AccountId>,
        what: &'static str,
        subject: &str,
        detail: &str,
    ) {
        let member = self.member();
        let by = match &self.who.token {
            None => format!("member: {} ({})", member.email, member.id),
            Some(token) => format!("{token} of member: {} ({})", member.email, member.id),
        };
        let since = Duration::ZERO;
        let event = AuditEvent::Administered { what, subject, account, detail, by: &by, since };
        self.workspace.forwarder.telemetry.event(&event);
    }

    /// The account, if the member may do this to it. An account that they may not even see is not
    /// there: ids tell nothing.
    ///
    /// # Errors
    /// `NotFound`, or `Forbidden` for one that they see.
    pub async fn account(&self, id: &str, operation: Operation) -> Result<Account, Trouble> {
        let id: AccountId = id.parse().map_err(|_| Trouble::NotFound)?;
        let account = self.vault().account(&id).await?.filter(|account| account.id == id);
        let account = account.ok_or(Trouble::NotFound)?;
        let shares: Shares = self.vault().shares().await?.into_iter().collect();
        let standing = shares.standing(self.member(), &account);
        match () {
            () if may(standing, operation) => Ok(account),
            () if may(standing, Operation::See) => Err(Trouble::Forbidden(refusal(operation))),
            () => Err(Trouble::NotFound),
        }
    }
}

fn refusal(operation: Operation) -> &'static str {
    match operation {
        Operation::ManageAccess => "Only the account's owner may rename it or say who may use it.",
        Operation::Reconnect => "Only the account's owner may reconnect it.",
        Operation::Delete => "Only the account's owner, and owners and admins, may delete it.",
        Operation::Bind | Operation::ChangeCallers => {
            "This account is not shared with you. Ask its owner to share it."
        }
        Operation::See | Operation::TestCallers => "You may not do this.",
    }
}

fn write_flash(workspace: &Workspace, who: &LoggedIn, flash: &Flash) -> String {
    let kind = if flash.is_warning() { 'w' } else { 'd' };
    let text: String = flash.text.chars().take(MAX_FLASH_CHARS).collect();
    let value = URL_SAFE_NO_PAD.encode(format!("{kind}{text}"));
    let seal = workspace.seal("flash", &format!("{} {value}", who.csrf));
    format!("{value}.{seal}")
}

fn read_flash(workspace: &Workspace, who: &LoggedIn, headers: &HeaderMap) -> Option<Flash> {
    let (value, seal) = cookie(headers, &workspace.cookie_name("flash"))?.split_once('.')?;
    if !same(seal, &workspace.seal("flash", &format!("{} {value}", who.csrf))) {
        return None;
    }
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(value).ok()?).ok()?;
    let kind = if text.starts_with('w') { FlashKind::Warning } else { FlashKind::Done };
    Some(Flash { kind, text: text.get(1..)?.to_owned() })
}

//! Logging in with a password, and out.

use std::time::Duration;

use askama::Template;
use http::{Method, Response, StatusCode};

use super::form::{Form, local_path};
use super::guard::Try;
use super::shell::{Section, Theme};
use super::visit::Visit;
use super::{Trouble, Visitor};
use crate::forward::Body;
use crate::telemetry::{AuditEvent, AuthFailure};
use crate::vault::Member;
use crate::web::browser::{append_cookie, see_other};
use crate::web::html::{self, Policy};

#[derive(Template)]
#[template(path = "workspace/login.html")]
struct LoginPage<'a> {
    theme: Theme,
    next: &'a str,
    email: &'a str,
    error: Option<&'a str>,
    /// There is nobody who could log in yet.
    nobody: bool,
    /// Whether a password is taken.
    by_password: bool,
    /// What the button of the identity provider says, and where it leads.
    elsewhere: Option<(&'a str, String)>,
}

impl<'a> LoginPage<'a> {
    fn of(visitor: &'a Visitor<'_>, next: &'a str, email: &'a str) -> Self {
        let login = &visitor.workspace.login;
        let query: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let elsewhere = login.oidc.as_ref();
        let elsewhere = elsewhere.map(|oidc| (&*oidc.name, format!("/login/oidc?next={query}")));
        let (theme, by_password) = (visitor.theme(), login.password);
        Self { theme, next, email, error: None, nobody: false, by_password, elsewhere }
    }
}

/// Where to after the login: a page of ours.
pub(super) fn next_of(form: &Form) -> String {
    let next = local_path(form.text("next")).filter(|next| !next.starts_with("/login"));
    next.unwrap_or(Section::Accounts.href()).to_owned()
}

pub(super) async fn log_in(visitor: &Visitor<'_>) -> Result<Response<Body>, Trouble> {
    if visitor.parts.method != Method::POST {
        let next = next_of(&visitor.query());
        let nobody = visitor.workspace.vault().members().await?.is_empty();
        let page = LoginPage { nobody, ..LoginPage::of(visitor, &next, "") };
        return Ok(shown(StatusCode::OK, &page));
    }
    let email = visitor.form.text("email");
    match who(visitor, email).await? {
        Some(member) => let_in(visitor, &member, &next_of(visitor.form)).await,
        None => {
            let next = next_of(visitor.form);
            let error = Some("That e-mail address and password do not belong together.");
            let page = LoginPage { error, ..LoginPage::of(visitor, &next, email) };
            Ok(shown(StatusCode::UNPROCESSABLE_ENTITY, &page))
        }
    }
}

fn shown(status: StatusCode, page: &impl Template) -> Response<Body> {
    html::page(status, page, &Policy { tells_origin: true, ..Policy::default() })
}

/// The member with this address and password. An address that nobody has is refused in the same
/// words and after the same time.
async fn who(visitor: &Visitor<'_>, email: &str) -> Result<Option<Member>, Trouble> {
    let workspace = visitor.workspace;
    if !workspace.login.password {
        return Err(Trouble::Forbidden("Members log in at the identity provider here."));
    }
    let known_browser = workspace.known_browser(&visitor.parts.headers, email);
    let attempt = Try { email, address: visitor.peer, known_browser };
    let admitted = workspace.guard.admit(&attempt, workspace.keeper.clock().uptime());
    admitted.map_err(|wait| {
        failed(visitor, email, AuthFailure::Forbidden);
        Trouble::Throttled(wait.as_secs() + 1)
    })?;
    let member = workspace.vault().member_by_email(email).await?;
    let id = member.as_ref().map_or_else(nobody, |member| Ok(member.id.clone()))?;
    let hash = workspace.vault().password_hash(&id).await?;
    let right = workspace.hasher.matches(hash, &visitor.form.secret("password")).await?;
    match member.filter(|member| right && member.disabled_at.is_none()) {
        Some(member) => {
            workspace.guard.forgive(&attempt);
            Ok(Some(member))
        }
        None => {
            failed(visitor, email, AuthFailure::Invalid);
            Ok(None)
        }
    }
}

/// Asked for in the store's place of a member that there is not, so that both cost the same.
fn nobody() -> Result<crate::ids::MemberId, Trouble> {
    "mem_0".parse().map_err(|_| Trouble::NotFound)
}

fn failed(visitor: &Visitor<'_>, email: &str, reason: AuthFailure) {
    let claimed: String = email.chars().take(200).collect();
    visitor.workspace.forwarder.telemetry.event(&AuditEvent::AuthFailed {
        reason,
        claimed: Some(&claimed),
        client: Some(visitor.peer),
        count: 1,
    });
}

/// Begins the member's session in this browser.
pub(super) async fn let_in(
    visitor: &Visitor<'_>,
    member: &Member,
    next: &str,
) -> Result<Response<Body>, Trouble> {
    let mut response = see_other(next);
    for cookie in visitor.workspace.log_in(member, &visitor.parts.headers).await? {
        append_cookie(&mut response, &cookie);
    }
    let by = format!("member: {} ({})", member.email, member.id);
    visitor.workspace.forwarder.telemetry.event(&AuditEvent::Administered {
        what: "logged_in",
        subject: &member.email,
        account: None,
        detail: &visitor.peer.to_string(),
        by: &by,
        since: Duration::ZERO,
    });
    Ok(response)
}

pub(super) async fn log_out(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    if !visit.is_post() {
        return Err(Trouble::NotFound);
    }
    visit.vault().delete_session(visit.who.session.digest).await?;
    visit.audit("logged_out", &visit.member().email, "");
    let mut response = see_other("/login");
    let gone = visit.workspace.set_cookie("session", "", Some(Duration::ZERO));
    append_cookie(&mut response, &gone);
    Ok(response)
}

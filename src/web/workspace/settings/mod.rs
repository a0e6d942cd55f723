//! *Settings*: the member's own name, address, password, sessions and tokens, and what there is to
//! know about this installation.

mod tokens;

use askama::Template;
use http::Response;

use super::guard::Try;
use super::shell::{Moment, Section, Shell};
use super::visit::Visit;
use super::welcome::check_email;
use super::{Trouble, password, redirect_uri};
use crate::forward::Body;
use crate::secret::TokenDigest;
use crate::vault::{self, MemberDetails, Session};

pub(super) async fn route(visit: &Visit<'_>, path: &[&str]) -> Result<Response<Body>, Trouble> {
    match (path, visit.is_post()) {
        ([] | [""], false) => show(visit, None).await,
        (["profile"], true) => change_profile(visit).await,
        (["password"], true) => change_password(visit).await,
        (["sessions"], true) => end_session(visit).await,
        (["sessions", "others"], true) => end_others(visit).await,
        (["tokens"], true) => tokens::create(visit).await,
        (["tokens", "revoke"], true) => tokens::revoke(visit).await,
        _ => Err(Trouble::NotFound),
    }
}

#[derive(Template)]
#[template(path = "workspace/settings.html")]
struct SettingsPage<'a> {
    shell: Shell<'a>,
    name: &'a str,
    email: &'a str,
    /// Whether the member has a password, or comes by the identity provider only.
    has_password: bool,
    error: Option<Error>,
    sessions: Vec<Open>,
    tokens: Vec<tokens::Line>,
    entered: Entered<'a>,
    version: &'static str,
    base: &'a str,
    redirect_uri: String,
    apps: usize,
}

/// What was wrong, and with which form.
struct Error {
    form: &'static str,
    text: String,
}

/// What was asked of a token that was not made.
struct Entered<'a> {
    name: &'a str,
    rights: &'a str,
    lifetime: &'a str,
}

impl SettingsPage<'_> {
    fn lives(&self) -> &'static [(&'static str, &'static str)] {
        &tokens::LIVES
    }
}

struct Open {
    digest: String,
    agent: String,
    began: Moment,
    ends: Moment,
    is_this: bool,
}

async fn show(visit: &Visit<'_>, error: Option<Error>) -> Result<Response<Body>, Trouble> {
    let (member, now) = (visit.member(), visit.now());
    let open = |session: &Session| Open {
        digest: session.digest.to_hex(),
        agent: agent(session.details.user_agent.as_deref().unwrap_or_default()),
        began: Moment::of(session.created_at, now),
        ends: Moment::of(session.details.expires_at, now),
        is_this: session.digest == visit.who.session.digest,
    };
    let tokens_failed = error.as_ref().is_some_and(|error| error.form == "tokens");
    let profile_failed = error.as_ref().is_some_and(|error| error.form == "profile");
    let entered = |field: &'static str| visit.form.text(field);
    let sessions = visit.vault().sessions_of(&member.id).await?;
    let base = &visit.workspace.base;
    let refused = error.is_some();
    let page = SettingsPage {
        shell: visit.shell(Section::Settings, "Settings"),
        name: if profile_failed { entered("name") } else { &member.name },
        email: if profile_failed { entered("email") } else { &member.email },
        has_password: visit.vault().password_hash(&member.id).await?.is_some(),
        error,
        sessions: sessions.iter().map(open).collect(),
        tokens: tokens::lines(visit).await?,
        entered: Entered {
            name: if tokens_failed { entered("name") } else { "" },
            rights: if tokens_failed { entered("rights") } else { "read" },
            lifetime: if tokens_failed { entered("lifetime") } else { "90d" },
        },
        version: env!("CARGO_PKG_VERSION"),
        base,
        redirect_uri: redirect_uri(visit.workspace),
        apps: visit.workspace.keeper.catalog().len(),
    };
    Ok(if refused { visit.refused(&page) } else { visit.page(&page) })
}

/// The browser and system of a user agent, as people call them.
fn agent(text: &str) -> String {
    let find = |known: &[(&str, &'static str)]| {
        known.iter().find(|(mark, _)| text.contains(mark)).map(|(_, name)| *name)
    };
    let browser = find(&[
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ]);
    let system = find(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => "Unknown browser".to_owned(),
    }
}

/// Whether the form has the member's present password. Guesses are limited as at the login: a
/// browser that was left open must not become a way to find it out.
async fn knows_password(visit: &Visit<'_>) -> Result<bool, Trouble> {
    let (workspace, member) = (visit.workspace, visit.member());
    let mark = visit.who.session.digest.to_hex();
    let attempt = Try { email: &member.email, address: visit.peer, known_browser: Some(&mark) };
    let admitted = workspace.guard.admit(&attempt, workspace.keeper.clock().uptime());
    admitted.map_err(|wait| Trouble::Throttled(wait.as_secs() + 1))?;
    let hash = workspace.vault().password_hash(&member.id).await?;
    let right = workspace.hasher.matches(hash, &visit.form.secret("current")).await?;
    if right {
        workspace.guard.forgive(&attempt);
    }
    Ok(right)
}

async fn change_profile(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let member = visit.member();
    let (name, email) = (visit.form.text("name"), visit.form.text("email"));
    let failed = |text: &str| Some(Error { form: "profile", text: text.to_owned() });
    if name.is_empty() || name.chars().count() > 200 {
        return show(visit, failed("Enter a name of at most 200 characters.")).await;
    }
    if let Err(error) = check_email(email) {
        return show(visit, failed(&error)).await;
    }
    // Whoever has the address can have the password set anew, so it needs the password.
    if !email.eq_ignore_ascii_case(&member.email) && !knows_password(visit).await? {
        return show(visit, failed("To change the address, enter your present password.")).await;
    }
    let details =
        MemberDetails { email: email.to_owned(), name: name.to_owned(), ..member.details() };
    match visit.vault().update_member(&member.id, &details).await {
        Ok(_) => {
            visit.audit("member_changed", email, &member.email);
            Ok(visit.done("/settings", "Your profile is saved."))
        }
        Err(vault::Error::Conflict(_)) => {
            show(visit, failed("There is a member with this address already.")).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn change_password(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let member = visit.member();
    let failed = |text: &str| Some(Error { form: "password", text: text.to_owned() });
    let (new, again) = (visit.form.secret("password"), visit.form.secret("again"));
    if !new.same_as(&again) {
        return show(visit, failed("The two new passwords differ.")).await;
    }
    if let Err(unfit) = password::check(&new, &member.email) {
        return show(visit, failed(&unfit.to_string())).await;
    }
    let has_one = visit.vault().password_hash(&member.id).await?.is_some();
    if has_one && !knows_password(visit).await? {
        return show(visit, failed("The present password is another one.")).await;
    }
    let hash = visit.workspace.hasher.hash(&new).await?;
    let keep = visit.who.session.digest;
    visit.vault().change_password(&member.id, &hash, keep).await?;
    let tokens = match visit.form.has("tokens") {
        true => visit.vault().delete_member_tokens(&member.id).await?,
        false => 0,
    };
    let detail = if tokens > 0 { format!("{tokens} tokens revoked") } else { String::new() };
    visit.audit("password_changed", &member.email, &detail);
    Ok(visit.done("/settings", "Your password is changed. You are logged out everywhere else."))
}

async fn end_session(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let digest = TokenDigest::from_hex(visit.form.text("session")).ok_or(Trouble::NotFound)?;
    let own = visit.vault().sessions_of(&visit.member().id).await?;
    if !own.iter().any(|session| session.digest == digest) {
        return Err(Trouble::NotFound);
    }
    visit.vault().delete_session(digest).await?;
    visit.audit("session_ended", &visit.member().email, "");
    Ok(visit.done("/settings", "That session has ended."))
}

async fn end_others(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    for session in visit.vault().sessions_of(&visit.member().id).await? {
        if session.digest != visit.who.session.digest {
            visit.vault().delete_session(session.digest).await?;
        }
    }
    visit.audit("session_ended", &visit.member().email, "all others");
    Ok(visit.done("/settings", "You are logged out everywhere else."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_called_by_its_name() {
        for (text, expected) in [
            ("Mozilla/5.0 (X11; Linux x86_64) Chrome/130.0 Safari/537.36", "Chrome on Linux"),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 14) Safari/605", "Safari on macOS"),
            ("Mozilla/5.0 (Windows NT 10.0) Chrome/1 Safari/1 Edg/1", "Edge on Windows"),
            ("curl/8", "Unknown browser"),
        ] {
            assert_eq!(agent(text), expected, "{text}");
        }
    }
}

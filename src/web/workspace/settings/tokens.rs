//! A member's own tokens, for their programs: made, shown once, revoked.

use askama::Template;
use http::Response;

use super::super::Trouble;
use super::super::machine::PREFIX;
use super::super::shell::{Moment, Section, Shell};
use super::super::visit::Visit;
use super::{Error, knows_password, show};
use crate::config::duration;
use crate::forward::Body;
use crate::secret::TokenDigest;
use crate::vault::{self, MemberToken, MemberTokenDetails, Rights, fresh_member_token};

/// A token in a list, without the token.
pub struct Line {
    pub id: String,
    pub name: String,
    pub rights: &'static str,
    pub created: Moment,
    pub used: Option<Moment>,
    pub expires: Option<Moment>,
    pub expired: bool,
}

/// What a life may be chosen as; the first is taken where nobody chooses.
pub const LIVES: [(&str, &str); 5] =
    [("90d", "90 days"), ("7d", "7 days"), ("30d", "30 days"), ("365d", "1 year"), ("", "No end")];

pub async fn lines(visit: &Visit<'_>) -> Result<Vec<Line>, Trouble> {
    let now = visit.now();
    let line = |token: &MemberToken| Line {
        id: token.id.clone(),
        name: token.details.name.clone(),
        rights: token.details.rights.said(),
        created: Moment::of(token.created_at, now),
        used: Moment::maybe(token.last_used_at, now),
        expires: Moment::maybe(token.details.expires_at, now),
        expired: token.details.expires_at.is_some_and(|at| at <= now),
    };
    let tokens = visit.vault().member_tokens(Some(&visit.member().id)).await?;
    Ok(tokens.iter().map(line).collect())
}

#[derive(Template)]
#[template(path = "workspace/member_token.html")]
struct TokenPage<'a> {
    shell: Shell<'a>,
    name: &'a str,
    token: &'a str,
    rights: &'static str,
    expires: Option<Moment>,
    /// Something to try it with.
    example: String,
}

/// A token outlives the session, so that whoever finds a browser open must not get one: it takes the
/// password.
pub async fn create(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let member = visit.member();
    let failed = |text: String| Some(Error { form: "tokens", text });
    let form = &visit.form;
    let life = match form.said("lifetime").map(duration).transpose() {
        Ok(life) => life,
        Err(why) => return show(visit, failed(why)).await,
    };
    let Ok(rights) = form.text("rights").parse::<Rights>() else {
        return show(visit, failed("Choose what the token may do.".to_owned())).await;
    };
    let has_password = visit.vault().password_hash(&member.id).await?.is_some();
    if has_password && !knows_password(visit).await? {
        return show(visit, failed("Enter your present password.".to_owned())).await;
    }
    let token = fresh_member_token()?;
    let digest = TokenDigest::of(token.expose().as_bytes());
    let expires_at = life.map(|life| visit.now() + life);
    let details = MemberTokenDetails { name: form.text("name").to_owned(), rights, expires_at };
    let made = match visit.vault().create_member_token(&member.id, digest, &details).await {
        Ok(made) => made,
        Err(vault::Error::Conflict(why)) => return show(visit, failed(why)).await,
        Err(error) => return Err(error.into()),
    };
    visit.audit("member_token_added", &member.email, &format!("{}: {rights}", made.id));
    let base = &visit.workspace.base;
    let page = TokenPage {
        shell: visit.shell(Section::Settings, "Your new token"),
        name: &made.details.name,
        token: token.expose(),
        rights: rights.verb(),
        expires: Moment::maybe(expires_at, visit.now()),
        example: format!(
            "curl -H \"Authorization: Bearer $COUNTERSIGN_TOKEN\" {base}{PREFIX}accounts"
        ),
    };
    Ok(visit.page(&page))
}

pub async fn revoke(visit: &Visit<'_>) -> Result<Response<Body>, Trouble> {
    let (member, id) = (visit.member(), visit.form.text("token"));
    if !visit.vault().delete_member_token(&member.id, id).await? {
        return Err(Trouble::NotFound);
    }
    visit.audit("member_token_revoked", &member.email, id);
    Ok(visit.done("/settings#tokens", "The token is revoked: programs that have it are refused."))
}

//! Following a link: the first owner's, an invitation, or one for setting a password anew.

use askama::Template;
use http::{Method, Response, StatusCode};

use super::login::let_in;
use super::shell::Theme;
use super::{Section, Trouble, Visitor, password};
use crate::forward::Body;
use crate::secret::TokenDigest;
use crate::telemetry::AuditEvent;
use crate::vault::{self, Invitation, InvitationKind, Member, Newcomer};
use crate::web::html::{self, Message, Policy};

#[derive(Template)]
#[template(path = "workspace/welcome.html")]
struct WelcomePage<'a> {
    theme: Theme,
    token: &'a str,
    kind: InvitationKind,
    role: &'a str,
    /// Whose link it is; then it is not asked.
    fixed_email: Option<&'a str>,
    email: &'a str,
    name: &'a str,
    error: Option<&'a str>,
}

pub(super) async fn answer(visitor: &Visitor<'_>) -> Result<Response<Body>, Trouble> {
    let query = visitor.query();
    let is_post = visitor.parts.method == Method::POST;
    let token = if is_post { visitor.form.text("token") } else { query.text("token") };
    let digest = TokenDigest::of(token.as_bytes());
    let vault = visitor.workspace.vault();
    let Some(invitation) = vault.invitation(digest).await? else { return Ok(ended()) };
    let email = match &invitation.details.member {
        Some(member) => vault.member(member).await?.map(|member| member.email),
        None => invitation.details.email.clone(),
    };
    let link = Link { visitor, token, digest, invitation: &invitation, email: email.as_deref() };
    match is_post {
        true => link.take().await,
        false => Ok(link.page(None)),
    }
}

fn ended() -> Response<Body> {
    let text = "This link was used already, or has ended. Ask whoever sent it for a new one; a \
                member logs in as usual.";
    let message = Message { title: "This link has ended", text, button: None, clean_address: true };
    message.answer(StatusCode::GONE, &Policy::default())
}

struct Link<'v> {
    visitor: &'v Visitor<'v>,
    token: &'v str,
    digest: TokenDigest,
    invitation: &'v Invitation,
    email: Option<&'v str>,
}

impl Link<'_> {
    fn page(&self, error: Option<&str>) -> Response<Body> {
        let form = self.visitor.form;
        let page = WelcomePage {
            theme: self.visitor.theme(),
            token: self.token,
            kind: self.invitation.details.kind,
            role: self.invitation.details.role.as_str(),
            fixed_email: self.email,
            email: form.text("email"),
            name: form.text("name"),
            error,
        };
        let status =
            if error.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
        html::page(status, &page, &Policy { tells_origin: true, ..Policy::default() })
    }

    async fn take(&self) -> Result<Response<Body>, Trouble> {
        let form = self.visitor.form;
        let email = self.email.unwrap_or(form.text("email"));
        let password = form.secret("password");
        let mistake = check_email(email)
            .err()
            .or_else(|| password::check(&password, email).err().map(|unfit| unfit.to_string()))
            .or_else(|| (!password.same_as(&form.secret("again"))).then(|| DIFFER.to_owned()));
        if let Some(mistake) = mistake {
            return Ok(self.page(Some(&mistake)));
        }
        let hash = self.visitor.workspace.hasher.hash(&password).await?;
        let vault = self.visitor.workspace.vault();
        let taken = match self.invitation.details.kind {
            InvitationKind::Reset => match vault.accept_reset(self.digest, &hash).await? {
                Some(id) => Ok(vault.member(&id).await?),
                None => Ok(None),
            },
            InvitationKind::First | InvitationKind::Invite => {
                let name = form.said("name").unwrap_or(email).chars().take(200).collect();
                let newcomer = Newcomer {
                    email: email.to_owned(),
                    name,
                    password_hash: Some(hash),
                    oidc_subject: None,
                };
                vault.accept_invitation(self.digest, &newcomer).await
            }
        };
        match taken {
            Ok(Some(member)) => self.come_in(&member).await,
            Ok(None) => Ok(ended()),
            Err(vault::Error::Conflict(why)) => Ok(self.page(Some(&why))),
            Err(error) => Err(error.into()),
        }
    }

    async fn come_in(&self, member: &Member) -> Result<Response<Body>, Trouble> {
        let by = format!("member: {} ({})", member.email, member.id);
        let what = match self.invitation.details.kind {
            InvitationKind::Reset => "password_reset",
            InvitationKind::First | InvitationKind::Invite => "member_joined",
        };
        self.visitor.workspace.forwarder.telemetry.event(&AuditEvent::Administered {
            what,
            subject: &member.email,
            account: None,
            detail: member.role.as_str(),
            by: &by,
            since: std::time::Duration::ZERO,
        });
        let_in(self.visitor, member, Section::Accounts.href()).await
    }
}

const DIFFER: &str = "The two passwords differ.";

/// Whether this could be somebody's address: enough to be recognised by, nothing that hides.
pub(super) fn check_email(email: &str) -> Result<(), String> {
    let good = email.len() <= 254
        && !email.chars().any(|c| c.is_whitespace() || c.is_control())
        && email.split_once('@').is_some_and(|(name, host)| {
            !name.is_empty() && !host.is_empty() && !host.contains('@')
        });
    if good { Ok(()) } else { Err("That is not an e-mail address.".to_owned()) }
}

//! Who is logged in: a random token in a cookie, its digest in the store. It ends when it rests for
//! too long, after a fixed time anyway, at log-out, and with the member.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use http::HeaderMap;
use http::header::USER_AGENT;

use super::Workspace;
use crate::random;
use crate::secret::{Secret, TokenDigest, hex};
use crate::vault::{self, Member, MemberToken, Session, SessionDetails, SessionOf};
use crate::web::browser::cookie;

/// Between two lengthenings of a session in the store.
const LENGTHEN: Duration = Duration::from_secs(60);
const MAX_AGENT_CHARS: usize = 200;
/// How long a browser is remembered in which somebody has logged in.
const KNOWN: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Somebody who is logged in.
pub struct LoggedIn {
    pub member: Member,
    pub session: Session,
    /// Goes into every form of this session.
    pub csrf: String,
    /// The id of the token, where it is a program of theirs and no browser.
    pub token: Option<String>,
}

impl LoggedIn {
    /// A member's program, for the length of one request. It has no session, and a form of its
    /// would be nobody's.
    pub(super) fn by_token(member: Member, token: &MemberToken, digest: TokenDigest) -> Self {
        let details = SessionDetails {
            of: SessionOf::Member(member.id.clone()),
            scopes: Vec::new(),
            user_agent: None,
            expires_at: token.created_at,
        };
        let session = Session { digest, details, created_at: token.created_at };
        Self { member, session, csrf: String::new(), token: Some(token.id.clone()) }
    }
}

impl Workspace {
    /// The member whose session the cookie names, if it has not ended.
    pub(super) async fn logged_in(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<LoggedIn>, vault::Error> {
        let Some(token) = cookie(headers, &self.cookie_name("session")) else { return Ok(None) };
        let digest = TokenDigest::of(token.as_bytes());
        let Some(session) = self.vault().session(digest).await? else { return Ok(None) };
        let SessionOf::Member(id) = &session.details.of else { return Ok(None) };
        let member = self.vault().member(id).await?;
        let Some(member) = member.filter(|member| member.disabled_at.is_none()) else {
            return Ok(None);
        };
        let until = self.ends_at(session.created_at);
        let longer = until.duration_since(session.details.expires_at).unwrap_or_default();
        if longer > LENGTHEN {
            self.vault().extend_session(digest, until).await?;
        }
        let csrf = self.seal("csrf", token);
        Ok(Some(LoggedIn { member, session, csrf, token: None }))
    }

    /// Begins a session with a token of its own, whatever cookie the browser came with, and gives
    /// the cookies to set. The session that it came with ends.
    pub(super) async fn log_in(
        &self,
        member: &Member,
        headers: &HeaderMap,
    ) -> Result<Vec<String>, super::Trouble> {
        if let Some(before) = cookie(headers, &self.cookie_name("session")) {
            self.vault().delete_session(TokenDigest::of(before.as_bytes())).await?;
        }
        let token = random::token("", 32)?;
        let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        let details = SessionDetails {
            of: SessionOf::Member(member.id.clone()),
            scopes: Vec::new(),
            user_agent: agent.map(|agent| agent.chars().take(MAX_AGENT_CHARS).collect()),
            expires_at: self.ends_at(self.now()),
        };
        let digest = TokenDigest::of(token.expose().as_bytes());
        self.vault().create_session(digest, &details).await?;
        let session = self.set_cookie("session", token.expose(), Some(self.login.lifetime));
        Ok(vec![session, self.set_cookie("known", &self.mark(&member.email)?, Some(KNOWN))])
    }

    /// When a session that began then ends, if nobody does anything from now on.
    fn ends_at(&self, began: SystemTime) -> SystemTime {
        (self.now() + self.login.idle_timeout).min(began + self.login.lifetime)
    }

    /// Says of a browser that this member has logged in there.
    fn mark(&self, email: &str) -> Result<String, super::Trouble> {
        let nonce = random::token("", 16)?;
        let nonce = nonce.expose();
        Ok(format!("{nonce}.{}", self.seal("known", &format!("{nonce} {}", email.to_lowercase()))))
    }

    /// The mark of the browser, if it is ours and this member's.
    pub(super) fn known_browser<'h>(&self, headers: &'h HeaderMap, email: &str) -> Option<&'h str> {
        let (nonce, seal) = cookie(headers, &self.cookie_name("known"))?.split_once('.')?;
        let expected = self.seal("known", &format!("{nonce} {}", email.to_lowercase()));
        same(seal, &expected).then_some(nonce)
    }

    /// What only this installation can make of a text.
    pub(super) fn seal(&self, purpose: &str, text: &str) -> String {
        hex(hmac::sign(&self.key, format!("{purpose} {text}").as_bytes()).as_ref())
    }

    /// `__Host-` keeps other names of the same domain from setting it; browsers take it over https
    /// only.
    pub(super) fn cookie_name(&self, purpose: &str) -> String {
        let prefix = if self.secure { "__Host-" } else { "" };
        format!("{prefix}countersign_{purpose}")
    }

    /// Without a time it ends with the browser; a time of zero removes it.
    pub(super) fn set_cookie(&self, purpose: &str, value: &str, life: Option<Duration>) -> String {
        let name = self.cookie_name(purpose);
        let secure = if self.secure { "; Secure" } else { "" };
        let age = life.map(|life| format!("; Max-Age={}", life.as_secs())).unwrap_or_default();
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{age}{secure}")
    }
}

/// In constant time.
pub(super) fn same(one: &str, other: &str) -> bool {
    Secret::from(one.to_owned()).same_as(&Secret::from(other.to_owned()))
}

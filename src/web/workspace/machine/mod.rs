//! The workspace for programs: what a member may do on the pages, by a token of their own, in JSON.
//!
//! Below [`PREFIX`]. There is no session, no cookie and no form here, so nothing that a browser could
//! be made to send: the token stands in `Authorization`. Whether the member may do something is
//! asked where the pages ask it, of what the member is at that moment.

mod accounts;
mod callers;

use std::net::IpAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Response};
use hyper::body::Incoming;
use serde_json::json;

use super::session::LoggedIn;
use super::visit::Visit;
use super::{Form, Trouble, Workspace};
use crate::api::{Failure, bearer, note_stranger, ok, read_body};
use crate::clock::rfc3339;
use crate::forward::Body;
use crate::secret::TokenDigest;
use crate::telemetry::AuthFailure;
use crate::vault::{MEMBER_TOKEN, MemberToken, Rights};

/// Where programs of members find the workspace.
pub const PREFIX: &str = "/v1/workspace/";

/// One request of a member's program.
struct Errand<'w> {
    visit: Visit<'w>,
    token: MemberToken,
    body: Bytes,
}

impl Workspace {
    pub(super) async fn answer_program(
        &self,
        peer: IpAddr,
        parts: Parts,
        body: Incoming,
    ) -> Response<Body> {
        let answered = self.serve_program(peer, parts, body).await;
        answered.unwrap_or_else(Failure::into_response)
    }

    async fn serve_program(
        &self,
        peer: IpAddr,
        parts: Parts,
        body: Incoming,
    ) -> Result<Response<Body>, Failure> {
        self.forwarder.check(&parts).map_err(|refusal| Failure::bad(refusal.to_string()))?;
        let (token, who) = self.bearer(peer, &parts.headers).await?;
        if parts.method != Method::GET && token.details.rights == Rights::Read {
            return Err(Failure::Forbidden("this token may only read"));
        }
        let body = read_body(body).await?;
        let visit = Visit::new(self, who, peer, &parts, Form::default());
        let errand = Errand { visit, token, body };
        let path = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
        route(&errand, &path.split('/').collect::<Vec<_>>()).await
    }

    /// Whose token the request brings. An address that tries many gets no further answer.
    async fn bearer(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
    ) -> Result<(MemberToken, LoggedIn), Failure> {
        let Some(token) = bearer(headers).ok().flatten() else {
            note_stranger(&self.forwarder, peer, AuthFailure::Missing, None)?;
            return Err(Failure::Unauthorized(ASK));
        };
        let digest = TokenDigest::of(token.as_bytes());
        let known = match token.starts_with(MEMBER_TOKEN) {
            true => self.vault().member_by_token(digest).await?,
            false => None,
        };
        let Some((token, member)) = known else {
            note_stranger(&self.forwarder, peer, AuthFailure::Invalid, None)?;
            return Err(Failure::Unauthorized("the token is not known, or it has expired"));
        };
        let who = LoggedIn::by_token(member, &token, digest);
        Ok((token, who))
    }
}

const ASK: &str = "send a token of yours: Authorization: Bearer cspat_…; Settings makes one";

async fn route(errand: &Errand<'_>, path: &[&str]) -> Result<Response<Body>, Failure> {
    match (errand.visit.method.as_str(), path) {
        ("GET", ["me"]) => Ok(me(errand)),
        (_, ["me"]) => Err(Failure::Method { allow: "GET" }),
        (method, ["accounts", rest @ ..]) => accounts::route(errand, method, rest).await,
        (method, ["callers", rest @ ..]) => callers::route(errand, method, rest).await,
        _ => Err(Failure::Elsewhere(
            "nothing is here; there are me, accounts and callers below /v1/workspace/",
        )),
    }
}

/// Whose token it is, and what it may do.
fn me(errand: &Errand<'_>) -> Response<Body> {
    let (member, token) = (errand.visit.member(), &errand.token);
    ok(&json!({
        "id": member.id,
        "email": member.email,
        "name": member.name,
        "role": member.role.as_str(),
        "token": {
            "id": token.id,
            "name": token.details.name,
            "rights": token.details.rights.as_str(),
            "expires_at": token.details.expires_at.map(rfc3339),
        },
    }))
}

/// What a page would have said, for a program.
impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::NotFound => Self::NotFound,
            Trouble::Forbidden(why) => Self::Forbidden(why),
            Trouble::Throttled(seconds) => Self::Throttled { retry_after_s: seconds },
            Trouble::Busy => Self::Unavailable,
            Trouble::Store(error) => error.into(),
            other => Self::Bad(other.to_string()),
        }
    }
}

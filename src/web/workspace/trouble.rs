//! What keeps a page from being shown, and what helps.

use askama::Template;
use http::header::{HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use super::shell::{Section, Shell};
use super::visit::Visit;
use crate::connect;
use crate::forward::Body;
use crate::vault;
use crate::web::html::{Message, Policy};

#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("There is nothing here, or it is not yours to see.")]
    NotFound,
    #[error("{0}")]
    Forbidden(&'static str),
    #[error("{0}")]
    Bad(String),
    #[error(
        "This form was not sent from a page of this server, or the page is older than your session. \
         Go back, load the page again and send it once more."
    )]
    Forged,
    #[error("That way of asking is not known here.")]
    Method,
    #[error("Too many tries. Wait {0} seconds and try again.")]
    Throttled(u64),
    #[error("The server is busy; try again in a moment.")]
    Busy,
    #[error("{0}")]
    Connect(#[from] connect::Error),
    #[error("{0}")]
    Store(#[from] vault::Error),
}

impl From<super::password::Busy> for Trouble {
    fn from(_: super::password::Busy) -> Self {
        Self::Busy
    }
}

impl From<crate::random::NoRandom> for Trouble {
    fn from(_: crate::random::NoRandom) -> Self {
        Self::Busy
    }
}

impl Trouble {
    /// What the visitor mends on the form that they sent; anything else goes on as trouble.
    ///
    /// # Errors
    /// All that no entry mends.
    pub fn on_form(self) -> Result<String, Self> {
        match self {
            Self::Bad(why) | Self::Store(vault::Error::Conflict(why)) => Ok(why),
            trouble => Err(trouble),
        }
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Forbidden(_) | Self::Forged => StatusCode::FORBIDDEN,
            Self::Bad(_) | Self::Connect(_) => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Throttled(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Store(vault::Error::Conflict(_)) => StatusCode::CONFLICT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(error) if error.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Forbidden(_) => "Not allowed",
            Self::Throttled(_) => "Too many tries",
            Self::Busy | Self::Store(_) if self.status().is_server_error() => "Not available",
            _ => "That did not work",
        }
    }

    /// For somebody who is not logged in.
    pub(super) fn told(&self) -> Response<Body> {
        self.log();
        let text = self.to_string();
        let message =
            Message { title: self.title(), text: &text, button: None, clean_address: false };
        self.finish(message.answer(self.status(), &Policy::default()))
    }

    /// For a member, with the way to other pages.
    pub(super) fn told_to(&self, visit: &Visit<'_>) -> Response<Body> {
        self.log();
        let text = self.to_string();
        let shell = visit.shell(Section::Accounts, self.title());
        let page = TroublePage { shell, text: &text };
        self.finish(visit.page_with(self.status(), &page, Policy::default()))
    }

    fn finish(&self, mut response: Response<Body>) -> Response<Body> {
        if let Self::Throttled(seconds) = self {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(*seconds));
        }
        response
    }

    fn log(&self) {
        if self.status().is_server_error() {
            tracing::error!(error = %self, "a page could not be shown");
        }
    }
}

#[derive(Template)]
#[template(path = "workspace/trouble.html")]
struct TroublePage<'a> {
    shell: Shell<'a>,
    text: &'a str,
}

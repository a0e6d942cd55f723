//! Why there is not even a request: the definition or the account lacks something.

use super::answer::{Class, TokenError};
use super::jwt;
use crate::catalog::{HostError, InvalidValue};
use crate::inject::TemplateError;

/// Found before anything is sent. Texts say how to mend it, and never a value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the app \"{app}\" has no {what} in its definition")]
    NotDefined { app: String, what: &'static str },
    #[error(
        "there is no OAuth client for the app \"{app}\"; register one with the provider and add it"
    )]
    NoClient { app: String },
    #[error("the OAuth client of the app \"{app}\" has no {what}, which its server wants")]
    ClientLacks { app: String, what: &'static str },
    #[error(transparent)]
    Value(#[from] TemplateError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Captured(#[from] InvalidValue),
    #[error("the URL \"{0}\" of the definition is not one that can be called")]
    Url(String),
    #[error("the value of \"{0}\" may not stand in the path of a URL")]
    Path(String),
    #[error("\"{0}\" is not a header, or its value cannot be one")]
    Header(String),
    #[error(transparent)]
    Key(#[from] jwt::Error),
    #[error("client certificates at the token endpoint are not supported")]
    ClientCertificate,
    #[error("SAML assertions are not supported")]
    Saml,
    #[error("the callback is signed in a way that is not supported: {0}")]
    CallbackCheck(String),
}

impl From<Error> for TokenError {
    fn from(error: Error) -> Self {
        Self::unsent(Class::Client, "not_configured", error.to_string())
    }
}

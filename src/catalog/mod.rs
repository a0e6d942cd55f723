//! Apps: what countersign knows about APIs. Data, never code for one provider.
//!
//! An app is one TOML file ([`parse`]); [`Catalog`] holds them all and answers which app owns a
//! host ([`index`]). Pure: files are read at the edge and handed in as text. The facts behind the
//! shape: RFC 6749 for OAuth, RFC 9110 §11 for HTTP authentication.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::host::Host;
use crate::ids::AppId;
use crate::inject::{Attachment, Template};

/// One API and every way to authenticate to it.
#[derive(Debug, Clone)]
pub struct App {
    pub id: AppId,
    pub name: String,
    pub description: String,
    pub categories: Vec<String>,
    pub docs_url: Option<String>,
    pub confidence: Confidence,
    /// Never empty; the first is what an account uses that names none.
    pub auths: Vec<Auth>,
    /// The file it came from, for messages.
    pub file: String,
}

/// How well the facts are founded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Confidence {
    /// Checked by hand or agreed by two sources.
    #[default]
    Verified,
    /// Known from one source only.
    Single,
}

/// One way to authenticate: `[auth.<id>]` in the file.
#[derive(Debug, Clone)]
pub struct Auth {
    pub id: String,
    pub kind: AuthKind,
    /// The only hosts that may get the credential.
    pub hosts: Vec<HostPattern>,
    /// Where relative URLs and the gateway go: `https://{subdomain}.zendesk.com/api/v2`.
    pub base_url: Template,
    pub attach: Vec<Attachment>,
    /// Hosts or paths where something else is attached, or nothing.
    pub exceptions: Vec<Exception>,
    pub fields: Vec<Field>,
    pub oauth2: Option<OAuth2>,
    pub oauth1: Option<OAuth1>,
    pub jwt: Option<Jwt>,
    pub test: Option<TestRequest>,
}

/// The catalog's kinds. What is attached says the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthKind {
    Oauth2,
    Oauth2ClientCredentials,
    Oauth2Password,
    Oauth1,
    ApiKey,
    Bearer,
    Basic,
    Jwt,
    TokenExchange,
    AwsSigv4,
    Signature,
    None,
}

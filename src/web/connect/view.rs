//! The connect page's templates, and what they are filled with.

use askama::Template;

use super::params::Params;
use crate::connect::{Visit, return_address};
use crate::web::fields::{Input, Said};
use crate::web::html::monogram;
use crate::web::words::Spoken;

/// What every state of the page has around it.
pub struct Shell {
    pub product: Option<Product>,
    /// JSON: the origins that messages may go to.
    pub origins: String,
    pub framed: bool,
    pub closable: bool,
    /// A window beside the page that waits.
    pub window: bool,
}

/// Whose product asks.
pub struct Product {
    pub name: String,
    pub logo: Option<String>,
    pub mark: (String, u8),
    pub support: Option<String>,
}

/// An app as people see it.
pub struct AppMark {
    pub name: String,
    pub mark: (String, u8),
}

impl AppMark {
    pub fn of(name: &str) -> Self {
        Self { name: name.to_owned(), mark: monogram(name) }
    }
}

impl Shell {
    pub fn of(visit: Option<&Visit>, logo: Option<String>, params: &Params) -> Self {
        let origins: &[String] = visit.map_or(&[], |visit| &visit.token.details.allowed_origins);
        Self {
            product: visit.map(|visit| Product::of(visit, logo)),
            origins: serde_json::to_string(origins).unwrap_or_default(),
            framed: !params.link && !params.window,
            closable: !params.link && !params.window && !params.hide_close,
            window: params.window,
        }
    }

    pub fn product_name(&self) -> &str {
        self.product.as_ref().map_or("The product that you came from", |product| &product.name)
    }
}

impl Product {
    fn of(visit: &Visit, logo: Option<String>) -> Self {
        let details = &visit.project.details;
        let name = details.app_name.as_ref().unwrap_or(&details.name).clone();
        let support = details.support_email.clone();
        Self { mark: monogram(&name), name, logo, support }
    }
}

/// The list of apps.
#[derive(Template)]
#[template(path = "connect/choose.html")]
pub struct Choose {
    pub shell: Shell,
    pub hidden: Vec<(&'static str, String)>,
    pub words: String,
    pub apps: Vec<Listed>,
    pub more: usize,
}

pub struct Listed {
    pub app: AppMark,
    pub description: String,
    pub address: String,
}

/// One app, before it is connected.
#[derive(Template)]
#[template(path = "connect/app.html")]
pub struct AppPage {
    pub shell: Shell,
    pub app: AppMark,
    pub hidden: Vec<(&'static str, String)>,
    /// Where a form of this way goes.
    pub action: &'static str,
    /// The provider is asked, in the browser.
    pub by_browser: bool,
    /// The account that is connected anew, by its name.
    pub reconnect: Option<String>,
    pub ways: Vec<WayLink>,
    pub scopes: Vec<Scope>,
    /// Whether the person may leave out scopes.
    pub pick: bool,
    pub inputs: Vec<Input>,
    /// The person has registered a client of their own, and enters it.
    pub own_client: Option<OwnClient>,
    /// Whether the account may be given a name.
    pub named: bool,
    pub name: String,
    pub wrong: Option<Said>,
    pub docs: Option<String>,
    /// Back to the list.
    pub back: Option<String>,
    /// Where the outcome of this attempt is shown.
    pub result: String,
}

/// What is needed of a client that the person registered.
pub struct OwnClient {
    /// What the provider has to be told.
    pub redirect_uri: String,
    pub id: String,
    pub error: Option<String>,
}

pub struct WayLink {
    pub label: String,
    pub address: String,
    pub current: bool,
}

pub struct Scope {
    pub spoken: Spoken,
    /// Always asked.
    pub fixed: bool,
}

impl AppPage {
    pub fn is_bad(&self) -> bool {
        self.wrong.is_some()
            || self.inputs.iter().any(|input| input.error.is_some())
            || self.own_client.as_ref().is_some_and(|client| client.error.is_some())
    }
}

/// The end, good or bad.
#[derive(Template)]
#[template(path = "connect/end.html")]
pub struct End {
    pub shell: Shell,
    pub app: Option<AppMark>,
    pub good: bool,
    pub title: String,
    pub text: String,
    pub details: Option<Details>,
    pub again: Option<String>,
    /// Where the product wants the browser back.
    pub back: Option<String>,
    /// Go there without being asked.
    pub returns: bool,
    /// Told to the product's page: the account's id, or what went wrong.
    pub account: Option<String>,
    pub error: Option<String>,
    pub extra: Option<String>,
}

pub struct Details {
    pub said: Option<String>,
    pub id: String,
}

/// An address of the product's that may be gone to, if it is one.
pub fn back(address: Option<&String>) -> Option<String> {
    return_address(address?).map(str::to_owned)
}

//! Everything that can go wrong, as people read it: what happened, what to do, and for whoever they
//! ask the provider's own words and an id that the server's log has too.

use serde::{Deserialize, Serialize};

use crate::connect::{self, Refused};
use crate::oauth::{Class, TokenError};
use crate::random;
use crate::vault;

/// One page of the many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The token is none, or long gone.
    Unknown,
    Expired,
    Spent,
    NoApp,
    OtherApp,
    NoAccount,
    NotSetUp,
    NotHere,
    TooMany,
    WrongBrowser,
    /// The way back from the provider leads nowhere any more.
    Stale,
    /// A form that was not sent by our own page.
    Foreign,
    Denied,
    OtherIdentity,
    Provider,
    Unreachable,
    Misconfigured,
    Gone,
    Store,
    Throttled,
}

/// What happened to somebody.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    pub kind: Kind,
    /// The provider's own words, or ours for the operator.
    pub said: Option<String>,
    pub id: String,
}

/// How it is told.
pub struct Told {
    pub title: String,
    pub text: String,
    /// Another try may do.
    pub again: bool,
    pub status: u16,
}

impl Problem {
    pub fn new(kind: Kind, said: Option<String>) -> Self {
        let id = random::token("", 4).map(|id| id.expose().to_owned()).unwrap_or_default();
        let problem = Self { kind, said, id };
        let (kind, said) = (problem.kind, problem.said.as_deref().unwrap_or_default());
        tracing::info!(id = %problem.id, ?kind, said, "nothing was connected");
        problem
    }

    pub fn read(text: &str) -> Self {
        let kept = serde_json::from_str(text);
        kept.unwrap_or_else(|_| Self { kind: Kind::Stale, said: None, id: String::new() })
    }

    pub fn written(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `app` and `product` by their names, where they are known.
    pub fn told(&self, app: Option<&str>, product: Option<&str>) -> Told {
        let app = app.unwrap_or("the provider");
        let product = product.unwrap_or("the product that you came from");
        let (title, text, again, status) = self.kind.told(app, product);
        Told { title, text, again, status }
    }

    /// For the product's program: one line.
    pub fn line(&self, app: Option<&str>, product: Option<&str>) -> String {
        let told = self.told(app, product);
        match &self.said {
            Some(said) => format!("{} ({said})", told.text),
            None => told.text,
        }
    }
}

impl Kind {
    fn told(self, app: &str, product: &str) -> (String, String, bool, u16) {
        let say =
            |title: &str, text: String, again, status| (title.to_owned(), text, again, status);
        let link = format!("Go back to {product} and start again from there.");
        match self {
            Self::Unknown => say(
                "This link does not work",
                format!("It may be incomplete, or too old. {link}"),
                false,
                404,
            ),
            Self::Expired => say(
                "This link has expired",
                format!("Links to connect an account work for a short time. {link}"),
                false,
                410,
            ),
            Self::Spent => say(
                "This link was used already",
                format!(
                    "It connects one account, and it has. To connect another one, start again in {product}."
                ),
                false,
                410,
            ),
            Self::NoApp => say(
                "There is no such app",
                format!("{product} asked for an app that is not known here. {product} can help."),
                false,
                404,
            ),
            Self::OtherApp => say(
                "This link is for another app",
                format!("Something in the link was changed. {link}"),
                false,
                400,
            ),
            Self::NoAccount => say(
                "The account is not there any more",
                format!("The account that was to be connected anew may have been deleted. {link}"),
                false,
                404,
            ),
            Self::NotSetUp => say(
                &format!("{app} is not set up yet"),
                format!(
                    "{product} has not registered with {app} so far, so nothing can be connected. \
                     Nothing that you can do here would help; {product} can."
                ),
                false,
                409,
            ),
            Self::NotHere => say(
                &format!("{app} cannot be connected here"),
                format!(
                    "It needs nothing from you, or something that this page cannot take. {product} can help."
                ),
                false,
                409,
            ),
            Self::TooMany => say(
                "There are too many accounts",
                format!(
                    "No more accounts can be connected before one is deleted. {product} can help."
                ),
                false,
                409,
            ),
            Self::WrongBrowser => say(
                "Another browser began this",
                format!(
                    "You began to connect {app} in one browser and came back in another. Nothing was \
                     connected. Open the link again, and stay in the same browser to the end."
                ),
                false,
                400,
            ),
            Self::Stale => say(
                "This step is over",
                format!(
                    "You came back to a step that was finished or took too long, perhaps with the \
                     back button. Nothing was connected by it. {link}"
                ),
                false,
                400,
            ),
            Self::Foreign => say(
                "This did not come from our page",
                "Another site, or a very old browser, sent this form. Nothing was connected. Open \
                 the link again in an up-to-date browser."
                    .to_owned(),
                false,
                403,
            ),
            Self::Denied => say(
                "You did not allow it",
                format!(
                    "{app} told us that you declined. Nothing was connected, and {product} has no access."
                ),
                true,
                200,
            ),
            Self::OtherIdentity => say(
                &format!("This is another account at {app}"),
                format!(
                    "The account that you are connecting anew belongs to somebody else at {app}. \
                     Sign in there as the same user as before."
                ),
                true,
                200,
            ),
            Self::Provider => say(
                &format!("{app} refused"),
                format!("{app} did not let us connect your account. Trying again sometimes helps."),
                true,
                200,
            ),
            Self::Unreachable => say(
                &format!("{app} does not answer"),
                "Nothing was connected. Try again in a moment.".to_owned(),
                true,
                200,
            ),
            Self::Misconfigured => say(
                &format!("{app} is not set up right"),
                format!(
                    "How {product} is registered with {app} does not fit. Nothing that you can do \
                     here would help; {product} can."
                ),
                false,
                200,
            ),
            Self::Gone => say(
                "The account was deleted",
                format!("It was deleted while you were connecting it. {link}"),
                false,
                404,
            ),
            Self::Store => say(
                "Not now",
                "Accounts cannot be stored at the moment. Nothing was connected; try again in a \
                 moment."
                    .to_owned(),
                true,
                503,
            ),
            Self::Throttled => {
                say("Too many tries", "Wait a minute, and then try again.".to_owned(), true, 429)
            }
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let said = Some(refused.to_string());
        match refused {
            Refused::NoApp => Self::new(Kind::NoApp, None),
            Refused::OtherApp => Self::new(Kind::OtherApp, None),
            Refused::NoAccount | Refused::OtherAccount => Self::new(Kind::NoAccount, None),
            Refused::NoClient
            | Refused::OtherClient
            | Refused::NoOverride
            | Refused::OtherOverride => Self::new(Kind::Misconfigured, said),
            Refused::NotSetUp { .. } => Self::new(Kind::NotSetUp, said),
            Refused::NotHere { .. } => Self::new(Kind::NotHere, said),
            Refused::TooMany => Self::new(Kind::TooMany, None),
            Refused::Store(error) => error.into(),
        }
    }
}

impl From<vault::Error> for Problem {
    fn from(error: vault::Error) -> Self {
        tracing::warn!(%error, "the connect page could not use the store");
        Self::new(Kind::Store, None)
    }
}

impl From<connect::Error> for Problem {
    fn from(error: connect::Error) -> Self {
        let said = error.to_string();
        match error {
            connect::Error::Store(error) => error.into(),
            connect::Error::Spent => Self::new(Kind::Spent, None),
            connect::Error::Deleted => Self::new(Kind::Gone, None),
            connect::Error::OtherIdentity { .. } => Self::new(Kind::OtherIdentity, Some(said)),
            connect::Error::Provider(error) => {
                Self::new(Kind::of(&error), Some(format!("{}: {}", error.code, error.message)))
            }
            _ => Self::new(Kind::Misconfigured, Some(said)),
        }
    }
}

impl Kind {
    fn of(error: &TokenError) -> Self {
        match (&*error.code, error.class) {
            ("access_denied" | "user_denied" | "consent_required" | "cancelled", _) => Self::Denied,
            ("unreachable" | "timeout", _) => Self::Unreachable,
            (_, Class::Client) => Self::Misconfigured,
            (_, Class::Transient) => Self::Unreachable,
            (_, Class::Dead) => Self::Provider,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Kind] = &[
        Kind::Unknown,
        Kind::Expired,
        Kind::Spent,
        Kind::NoApp,
        Kind::OtherApp,
        Kind::NoAccount,
        Kind::NotSetUp,
        Kind::NotHere,
        Kind::TooMany,
        Kind::WrongBrowser,
        Kind::Stale,
        Kind::Foreign,
        Kind::Denied,
        Kind::OtherIdentity,
        Kind::Provider,
        Kind::Unreachable,
        Kind::Misconfigured,
        Kind::Gone,
        Kind::Store,
        Kind::Throttled,
    ];

    #[test]
    fn every_problem_is_told_in_its_own_words() {
        let told = |kind: &Kind| Problem::new(*kind, None).told(Some("Slack"), Some("Shop")).title;
        let titles: std::collections::BTreeSet<String> = ALL.iter().map(told).collect();
        assert_eq!(titles.len(), ALL.len());
    }

    #[test]
    fn a_problem_is_read_as_it_was_written() {
        let problem = Problem::new(Kind::Denied, Some("access_denied: <b>".to_owned()));
        let read = Problem::read(&problem.written());
        assert_eq!((read.kind, read.said, read.id), (problem.kind, problem.said, problem.id));
        assert_eq!(Problem::read("garbage").kind, Kind::Stale);
    }
}

//! What an app is asked for: one of the sets that its definition or its OAuth client knows, and what
//! the member adds.

use crate::catalog::Auth;
use crate::connect::{Way, scopes};
use crate::vault::{Account, OAuthClientRecord};
use crate::web::words::{Spoken, label, spoken};

use super::super::Trouble;
use super::super::form::Form;

/// Names of inputs.
const SET: &str = "scope_set";
const MORE: &str = "scopes";
/// Names of sets; any other is a profile's.
const USUAL: &str = "usual";
const BEFORE: &str = "before";
const PROFILE: &str = "profile:";

/// The part of the form that is about scopes.
pub struct Access {
    /// Always asked.
    pub always: Vec<Spoken>,
    /// One of which is chosen.
    pub sets: Vec<Set>,
    /// As it was entered.
    pub more: String,
}

pub struct Set {
    pub value: String,
    pub label: String,
    pub scopes: Vec<Spoken>,
    pub chosen: bool,
}

/// `None` where there is nothing to choose.
pub fn offered(
    auth: &Auth,
    client: Option<&OAuthClientRecord>,
    account: Option<&Account>,
    form: &Form,
) -> Option<Access> {
    let oauth2 = auth.oauth2.as_ref().filter(|_| Way::of(auth) == Way::Browser)?;
    let always = &oauth2.default_scopes;
    let beside = |scopes: &[String]| -> Vec<Spoken> {
        scopes.iter().filter(|scope| !always.contains(scope)).map(|scope| spoken(scope)).collect()
    };
    let chosen = form.said(SET).unwrap_or(if account.is_some() { BEFORE } else { USUAL });
    let set = |value: String, label: String, scopes: &[String]| {
        let chosen = value == chosen;
        Set { value, label, scopes: beside(scopes), chosen }
    };
    let before = account
        .map(|account| set(BEFORE.to_owned(), "The same as before".to_owned(), &account.scopes));
    let by_client = client.is_some_and(|client| !client.details.scopes.is_empty());
    let usual = if by_client { "Those of the OAuth client" } else { "The usual ones" };
    let usual = set(USUAL.to_owned(), usual.to_owned(), &scopes::usual(auth, client, None));
    let profiles = oauth2
        .scope_profiles
        .iter()
        .map(|(name, scopes)| set(format!("{PROFILE}{name}"), label(name), scopes));
    Some(Access {
        always: always.iter().map(|scope| spoken(scope)).collect(),
        sets: before.into_iter().chain([usual]).chain(profiles).collect(),
        more: form.text(MORE).to_owned(),
    })
}

/// What was chosen and added, beside what is always asked.
///
/// # Errors
/// When there is no such set, or something else than scopes was added.
pub fn chosen(
    auth: &Auth,
    client: Option<&OAuthClientRecord>,
    account: Option<&Account>,
    form: &Form,
) -> Result<Vec<String>, Trouble> {
    let Some(oauth2) = &auth.oauth2 else { return Ok(Vec::new()) };
    let bad = |text: &str| Trouble::Bad(text.to_owned());
    let set = match (form.said(SET), account) {
        (None | Some(BEFORE), Some(account)) => account.scopes.clone(),
        (None | Some(USUAL), _) => scopes::usual(auth, client, None),
        (Some(named), _) => {
            let profile = named.strip_prefix(PROFILE);
            let profile = profile.and_then(|name| oauth2.scope_profiles.get(name));
            profile.cloned().ok_or_else(|| bad("Choose one of the lists of scopes."))?
        }
    };
    let more = scopes::entered(form.text(MORE))
        .map_err(|invalid| bad(&format!("More scopes: {invalid}.")))?;
    let all = set.iter().chain(&more).map(String::as_str);
    scopes::list(all).map_err(|invalid| bad(&format!("Scopes: {invalid}.")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    fn auth() -> Auth {
        let catalog = Catalog::embedded().expect("the catalog is sound");
        let mut auth = catalog.app("slack").expect("slack").default_auth().clone();
        let oauth2 = auth.oauth2.as_mut().expect("Slack has OAuth");
        oauth2.suggested_scopes = vec!["chat:write".to_owned()];
        oauth2.scope_profiles = [("read_only".to_owned(), vec!["chat:read".to_owned()])].into();
        auth
    }

    #[test]
    fn what_is_asked_for_is_one_set_and_what_was_added() {
        for (form, expected) in [
            ("", Some(&["chat:write"][..])),
            ("scope_set=usual&scopes=a,b%20chat%3Awrite", Some(&["chat:write", "a", "b"])),
            ("scope_set=profile%3Aread_only", Some(&["chat:read"])),
            ("scope_set=profile%3Anone", None),
            ("scope_set=before", None),
            ("scopes=%22", None),
        ] {
            let chosen = chosen(&auth(), None, None, &Form::parse(form.as_bytes())).ok();
            let expected = expected.map(|all| all.iter().map(ToString::to_string).collect());
            assert_eq!(chosen, expected as Option<Vec<String>>, "{form}");
        }
    }

    #[test]
    fn the_form_says_what_was_chosen() {
        let access = offered(&auth(), None, None, &Form::parse(b"scope_set=profile%3Aread_only"));
        let sets = access.expect("there is a choice").sets;
        let shown: Vec<_> = sets.iter().map(|set| (&*set.label, set.chosen)).collect();
        assert_eq!(shown, [("The usual ones", false), ("Read only", true)]);
    }
}

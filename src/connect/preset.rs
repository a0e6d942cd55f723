//! What a project decided for an app before its users connect it: values of fields that are no
//! secret, and perhaps the OAuth client.

use std::collections::BTreeMap;

use super::Way;
use crate::catalog::{App, Auth, Field};
use crate::ids::{AppOverrideId, OAuthClientId};
use crate::vault::{self, Account, AppOverride, AppOverrideDetails, OAuthClientRecord, Vault};

/// Of one app, for one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset {
    pub id: AppOverrideId,
    pub oauth_client: Option<OAuthClientId>,
    /// By field. Nobody who connects sees or changes them.
    pub fields: BTreeMap<String, String>,
}

impl Preset {
    pub fn of(found: &AppOverride) -> Self {
        let AppOverrideDetails { oauth_client, fields, .. } = found.details.clone();
        Self { id: found.id.clone(), oauth_client, fields }
    }

    /// What the account was connected with, if that is still there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn of_account(
        vault: &Vault,
        account: &Account,
    ) -> Result<Option<Self>, vault::Error> {
        let Some(id) = &account.app_override else { return Ok(None) };
        Ok(vault.app_override(id).await?.as_ref().map(Self::of))
    }

    pub fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// Whether it can be used with this way to authenticate: one that lacks a field would connect
    /// without what was decided.
    pub fn fits(&self, auth: &Auth) -> bool {
        let by_client = self.oauth_client.is_none() || Way::of(auth) != Way::Keys;
        by_client && self.fields.keys().all(|name| field_of(auth, name).is_some())
    }
}

/// Why an override is none of its app's.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("{app} has no field \"{field}\" that a person enters")]
    Field { app: String, field: String },
    #[error("\"{field}\" is a secret, which is not decided beforehand")]
    Secret { field: String },
    #[error("\"{field}\": a value has at most {MAX_VALUE_CHARS} characters, none of them control")]
    Text { field: String },
    #[error("{0}")]
    Value(#[from] crate::catalog::InvalidValue),
    #[error("the OAuth client is one of another app")]
    OtherClient,
    #[error("no way to connect {app} has all of these fields{}", with(.client))]
    NoWay { app: String, client: bool },
}

fn with(client: &bool) -> &'static str {
    if *client { " and takes this OAuth client" } else { "" }
}

/// Whether these details can be used with `app`, whose `client` they name.
///
/// # Errors
/// The first thing that does not fit.
pub fn check(
    app: &App,
    details: &AppOverrideDetails,
    client: Option<&OAuthClientRecord>,
) -> Result<(), Unfit> {
    if client.is_some_and(|client| client.details.app != app.id) {
        return Err(Unfit::OtherClient);
    }
    for (name, value) in &details.fields {
        check_field(app, name, value)?;
    }
    let all = |auth: &&Auth| details.fields.keys().all(|name| field_of(auth, name).is_some());
    let takes = |auth: &&Auth| client.is_none_or(|client| client.details.auth == auth.id);
    match app.auths.iter().filter(all).any(|auth| takes(&auth)) {
        true => Ok(()),
        false => Err(Unfit::NoWay { app: app.name.clone(), client: client.is_some() }),
    }
}

fn check_field(app: &App, name: &str, value: &str) -> Result<(), Unfit> {
    let fields = app.auths.iter().flat_map(|auth| &auth.fields);
    let named: Vec<&Field> =
        fields.filter(|field| field.name == name && field.is_asked()).collect();
    if named.iter().any(|field| field.secret) {
        return Err(Unfit::Secret { field: name.to_owned() });
    }
    if value.chars().count() > MAX_VALUE_CHARS || value.chars().any(char::is_control) {
        return Err(Unfit::Text { field: name.to_owned() });
    }
    let none = || Unfit::Field { app: app.name.clone(), field: name.to_owned() };
    named.first().ok_or_else(none)?.check(value)?;
    Ok(())
}

/// Addresses and names: keys are not among them.
const MAX_VALUE_CHARS: usize = 2000;

fn field_of<'a>(auth: &'a Auth, name: &str) -> Option<&'a Field> {
    auth.fields.iter().find(|field| field.name == name && field.is_asked() && !field.secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    fn details(fields: &[(&str, &str)]) -> AppOverrideDetails {
        let fields = fields.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        AppOverrideDetails { fields: fields.collect(), ..AppOverrideDetails::default() }
    }

    #[test]
    fn only_fields_that_a_person_enters_and_that_are_no_secret_are_decided_beforehand() {
        let catalog = Catalog::embedded().expect("the catalog is sound");
        let zendesk = catalog.app("zendesk").expect("zendesk");
        for (fields, told) in [
            (&[("subdomain", "acme")][..], None),
            (&[], None),
            (&[("subdomain", "acme.evil.test/")], Some("subdomain")),
            (&[("api_token", "secret")], Some("is a secret")),
            (&[("nothing", "x")], Some("has no field \"nothing\"")),
        ] {
            let checked = check(zendesk, &details(fields), None);
            match (checked, told) {
                (Ok(()), None) => {}
                (Err(error), Some(part)) => {
                    let said = error.to_string();
                    assert!(said.contains(part) && !said.contains("=secret"), "{said}");
                }
                (other, _) => panic!("{fields:?}: {other:?}"),
            }
        }
    }
}

//! What was entered for a wish, checked and sorted. Pure.

use std::collections::BTreeMap;

use super::{Error, Wish};
use crate::catalog::{Auth, Field, FieldOrigin};
use crate::inject::Properties;
use crate::oauth::Terms;
use crate::secret::Secret;

/// What was entered, checked and sorted.
pub(super) struct Held<'w> {
    pub auth: &'w Auth,
    pub fields: BTreeMap<String, String>,
    pub secrets: Properties,
    /// Both, for templates.
    properties: Properties,
}

impl<'w> Held<'w> {
    pub fn of(wish: &'w Wish) -> Result<Self, Error> {
        let auth = auth_of(wish)?;
        let mut fields = BTreeMap::new();
        let mut secrets = Properties::new();
        let entered = filled(wish);
        for name in entered.keys() {
            if !auth.fields.iter().any(|field| field.name == *name) {
                let app = wish.app.id.to_string();
                return Err(Error::UnknownField { app, field: name.clone() });
            }
        }
        for field in auth.fields.iter().filter(|field| field.is_asked()) {
            let Some(value) = value_of(field, &entered)? else { continue };
            field.check(value.expose())?;
            match field.secret {
                true => drop(secrets.insert(field.name.clone(), value)),
                false => drop(fields.insert(field.name.clone(), value.expose().to_owned())),
            }
        }
        derive(auth, &entered, &mut fields);
        let mut properties = secrets.clone();
        let plain = fields.iter().map(|(name, value)| (name.clone(), Secret::from(value.clone())));
        properties.extend(plain);
        Ok(Self { auth, fields, secrets, properties })
    }

    pub fn terms<'a>(&'a self, wish: &'a Wish) -> Terms<'a> {
        Terms {
            app: &wish.app,
            auth: self.auth,
            client: wish.client.as_deref().map(|client| &client.peer),
            properties: &self.properties,
            scopes: &wish.scopes,
        }
    }
}

/// Fields that are part of another: the data centre in a key.
fn derive(auth: &Auth, entered: &BTreeMap<String, Secret>, fields: &mut BTreeMap<String, String>) {
    for field in &auth.fields {
        let FieldOrigin::Derived { field: from, pattern } = &field.origin else { continue };
        let value = entered.get(from).and_then(|value| pattern.capture(value.expose()));
        if let Some(value) = value.map(str::to_owned).or_else(|| field.default.clone()) {
            fields.insert(field.name.clone(), value);
        }
    }
}

/// The value that was entered, or the field's default; `None` for an optional one that was not.
fn value_of(field: &Field, entered: &BTreeMap<String, Secret>) -> Result<Option<Secret>, Error> {
    let entered = entered.get(&field.name).filter(|value| !value.is_empty()).cloned();
    let value = entered.or_else(|| field.default.clone().map(Secret::from));
    if value.is_none() && !field.optional {
        let (field, label) = (field.name.clone(), field.label.clone());
        return Err(Error::Missing { field, label });
    }
    Ok(value)
}

pub(super) fn auth_of(wish: &Wish) -> Result<&Auth, Error> {
    wish.app
        .auth(&wish.auth)
        .ok_or_else(|| Error::NoSuchAuth { app: wish.app.id.to_string(), auth: wish.auth.clone() })
}

/// What was entered, and over it what was decided beforehand.
fn filled(wish: &Wish) -> BTreeMap<String, Secret> {
    let mut filled = wish.entered.clone();
    let fields = wish.preset.iter().flat_map(|preset| &preset.fields);
    filled.extend(fields.map(|(name, value)| (name.clone(), Secret::from(value.clone()))));
    filled
}

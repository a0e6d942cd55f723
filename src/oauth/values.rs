//! What the holes of a definition's URLs, parameters and headers are filled from.

use super::{Error, Terms};
use crate::catalog::{Auth, FieldOrigin};
use crate::clock::unix_ms;
use crate::inject::{Properties, Template, TemplateError};
use crate::random;
use crate::secret::Secret;
use std::time::SystemTime;

/// The account's properties, the OAuth client, and what the step at hand adds.
#[derive(Clone)]
pub(super) struct Values(Properties);

impl Values {
    /// Fields that are not set have their defaults, and the OAuth client goes before fields of the
    /// same name.
    pub(super) fn of(terms: &Terms<'_>, now: SystemTime) -> Self {
        let mut values = Self(terms.properties.clone());
        values.complete(terms.auth);
        if let Some(client) = terms.client {
            values.put("client_id", client.client_id.clone());
            values.put("oauth_client_id", client.client_id.clone());
            let kept =
                [("client_secret", &client.secret), ("client_private_key", &client.private_key)];
            for (name, secret) in kept {
                values.0.extend(secret.clone().map(|secret| (name.to_owned(), secret)));
            }
        }
        let nonce = random::token("", 16);
        values.put("nonce", nonce.map(|nonce| nonce.expose().to_owned()).unwrap_or_default());
        values.put("timestamp", (unix_ms(now) / 1000).to_string());
        values
    }

    fn complete(&mut self, auth: &Auth) {
        for field in &auth.fields {
            let value = match (&field.origin, &field.default) {
                _ if self.has(&field.name) => continue,
                (FieldOrigin::Derived { field: from, pattern }, _) => {
                    self.get(from).and_then(|value| pattern.capture(value)).map(str::to_owned)
                }
                (_, default) => default.clone(),
            };
            if let Some(value) = value {
                self.put(&field.name, value);
            }
        }
    }

    pub(super) fn put(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), Secret::from(value.into()));
    }

    pub(super) fn put_secret(&mut self, name: &str, value: &Secret) {
        self.0.insert(name.to_owned(), value.clone());
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose).filter(|value| !value.is_empty()).or_else(|| {
            // `{field.host}` is the host of a URL field.
            let url = self.0.get(name.strip_suffix(".host")?)?.expose();
            let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
            rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty())
        })
    }

    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        self.get(name).map(|value| Secret::from(value.to_owned()))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn fill(&self, template: &Template) -> Result<Secret, TemplateError> {
        template.render_with(|name| self.get(name))
    }

    /// The same with each value passed through `encode`.
    pub(super) fn fill_encoded(
        &self,
        template: &Template,
        encode: impl Fn(&str, &str) -> Result<String, Error>,
    ) -> Result<String, Error> {
        let mut encoded = std::collections::BTreeMap::new();
        for hole in template.holes() {
            if let Some(value) = self.get(hole) {
                encoded.insert(hole, encode(hole, value)?);
            }
        }
        let filled = template.render_with(|name| encoded.get(name).map(String::as_str))?;
        Ok(filled.expose().to_owned())
    }
}

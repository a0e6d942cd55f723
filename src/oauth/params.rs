//! Parameters of a token request, and the shapes in which they can be sent.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::Error;
use super::values::Values;
use crate::catalog::Param;
use crate::inject::TemplateError;
use crate::secret::Secret;

/// Name and value pairs, each name once, in the order in which they were first set.
#[derive(Default, Clone)]
pub(super) struct Params(Vec<(String, Entry)>);

#[derive(Clone)]
enum Entry {
    Text(Secret),
    /// Keeps its type in a JSON body.
    Json(Value),
}

impl Params {
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.put(name, Entry::Text(Secret::from(value.into())));
    }

    pub(super) fn set_secret(&mut self, name: &str, value: &Secret) {
        self.put(name, Entry::Text(value.clone()));
    }

    fn put(&mut self, name: &str, entry: Entry) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, value)) => *value = entry,
            None => self.0.push((name.to_owned(), entry)),
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    pub(super) fn remove_if(&mut self, unwanted: impl Fn(&str) -> bool) {
        self.0.retain(|(known, _)| !unwanted(known));
    }

    pub(super) fn rename(&mut self, names: &BTreeMap<String, String>) {
        for (name, _) in &mut self.0 {
            if let Some(own) = names.get(name.as_str()) {
                name.clone_from(own);
            }
        }
    }

    /// What the definition adds, or sets in the place of what there is.
    pub(super) fn add_all(
        &mut self,
        params: &BTreeMap<String, Param>,
        values: &Values,
    ) -> Result<(), Error> {
        for (name, param) in params {
            let entry = rendered(param, values)?;
            self.put(name, entry);
        }
        Ok(())
    }

    /// The same, but what lacks a value is left out.
    pub(super) fn add_possible(&mut self, params: &BTreeMap<String, Param>, values: &Values) {
        for (name, param) in params {
            if let Ok(entry) = rendered(param, values) {
                self.put(name, entry);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `application/x-www-form-urlencoded`, for a body and a query alike.
    pub(super) fn form(&self) -> Zeroizing<String> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, entry) in &self.0 {
            match entry {
                Entry::Text(text) => form.append_pair(name, text.expose()),
                Entry::Json(Value::Null) => &mut form,
                Entry::Json(Value::String(text)) => form.append_pair(name, text),
                Entry::Json(value) => form.append_pair(name, &value.to_string()),
            };
        }
        Zeroizing::new(form.finish())
    }

    pub(super) fn json(&self) -> Zeroizing<String> {
        let value = |entry: &Entry| match entry {
            Entry::Text(text) => Value::from(text.expose()),
            Entry::Json(value) => value.clone(),
        };
        let object: Map<_, _> = self.0.iter().map(|(name, e)| (name.clone(), value(e))).collect();
        Zeroizing::new(Value::Object(object).to_string())
    }
}

fn rendered(param: &Param, values: &Values) -> Result<Entry, TemplateError> {
    Ok(match param {
        Param::Text(template) => Entry::Text(values.fill(template)?),
        Param::Literal(value) => Entry::Json(value.clone()),
        Param::Table(_) => Entry::Json(json(param, values)?),
    })
}

fn json(param: &Param, values: &Values) -> Result<Value, TemplateError> {
    Ok(match param {
        Param::Text(template) => Value::from(values.fill(template)?.expose()),
        Param::Literal(value) => value.clone(),
        Param::Table(table) => {
            let entry = |(name, param): (&String, _)| Ok((name.clone(), json(param, values)?));
            Value::Object(table.iter().map(entry).collect::<Result<_, TemplateError>>()?)
        }
    })
}

/// The text of a header's parameter.
pub(super) fn text(param: &Param, values: &Values) -> Result<Secret, TemplateError> {
    match param {
        Param::Text(template) => values.fill(template),
        Param::Literal(Value::String(text)) => Ok(Secret::from(text.clone())),
        Param::Literal(value) => Ok(Secret::from(value.to_string())),
        Param::Table(_) => Ok(Secret::from(json(param, values)?.to_string())),
    }
}

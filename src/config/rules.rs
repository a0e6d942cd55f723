//! Rules outside the configuration file: as JSON, in the store and on the command line.

use std::sync::Arc;

use http::Method;
use serde::{Deserialize, Serialize};

use super::Rate;
use super::values::{method, pattern};
use crate::ids::{AccountId, AppId};
use crate::policy::{Effect, Rule};

/// A rule as it is written. What is left out matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleText {
    pub effect: RuleEffect,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Nickname or id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleEffect {
    #[default]
    Allow,
    Deny,
}

impl RuleText {
    /// The finished rule, called `name` in messages.
    ///
    /// # Errors
    /// The first part that cannot be read.
    pub fn finish(&self, name: &str) -> Result<Rule, String> {
        let said = |part: &str, error: String| format!("{name}: {part}: {error}");
        let methods = self.methods.iter().map(|text| method(text));
        let methods: Result<Vec<Method>, String> = methods.collect();
        let paths: Result<_, String> = self.paths.iter().map(|text| pattern(text)).collect();
        let app = self.app.as_deref().map(str::parse::<AppId>).transpose();
        let account = self.account.as_deref().map(str::parse::<AccountId>).transpose();
        let host = self.host.as_deref().map(pattern).transpose();
        Ok(Rule {
            name: Arc::from(name),
            effect: match self.effect {
                RuleEffect::Allow => Effect::Allow,
                RuleEffect::Deny => Effect::Deny,
            },
            app: app.map_err(|error| said("app", error.to_string()))?,
            account: account.map_err(|error| said("account", error.to_string()))?,
            host: host.map_err(|error| said("host", error))?,
            methods: methods.map_err(|error| said("methods", error))?,
            paths: paths.map_err(|error| said("paths", error))?,
        })
    }
}

/// # Errors
/// When the text is no list of rules.
pub fn rules_from_json(text: &str) -> Result<Vec<RuleText>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(text).map_err(|error| format!("no list of rules: {error}"))
}

pub fn rules_to_json(rules: &[RuleText]) -> String {
    serde_json::to_string(rules).expect("texts and lists of texts are JSON")
}

impl Rate {
    /// `50`, or `50/100`: so many per second, and so many at once after a pause.
    ///
    /// # Errors
    /// When it is neither.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let (per_second, burst) = text.split_once('/').unwrap_or((text, text));
        let number = |text: &str| text.trim().parse().ok();
        match (number(per_second), number(burst)) {
            (Some(per_second), Some(burst)) => Ok(Self { per_second, burst }),
            _ => Err("a rate is requests per second, and a burst: \"50\" or \"50/100\"".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_survives_the_store() {
        let rules = vec![
            RuleText { app: Some("slack".to_owned()), ..RuleText::default() },
            RuleText {
                effect: RuleEffect::Deny,
                host: Some("*.slack.com".to_owned()),
                methods: vec!["POST".to_owned()],
                paths: vec!["/api/admin.*".to_owned()],
                ..RuleText::default()
            },
        ];
        let text = rules_to_json(&rules);
        assert_eq!(rules_from_json(&text).expect("what was written"), rules);
        assert!(rules.iter().all(|rule| rule.finish("rules[0]").is_ok()));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (rule, part) in [
            (RuleText { app: Some("No App".to_owned()), ..RuleText::default() }, "app"),
            (RuleText { methods: vec!["G ET".to_owned()], ..RuleText::default() }, "methods"),
            (RuleText { paths: vec!["no-slash".to_owned()], ..RuleText::default() }, "paths"),
        ] {
            let said = rule.finish("rules[3]").expect_err(part);
            assert!(said.starts_with("rules[3]: ") && said.contains(part), "{said}");
        }
        assert!(rules_from_json("[{\"efect\":\"deny\"}]").is_err());
    }
}

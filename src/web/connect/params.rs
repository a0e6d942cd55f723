//! What a request to the connect page says, and how the page says it again in its links and forms.
//! The names are those that the SDKs put into the address. Pure.

use std::collections::BTreeMap;

use url::form_urlencoded;

use crate::connect::Asked;
use crate::secret::{Secret, TokenDigest};

/// Where the SDKs expect the page.
pub const PAGE: &str = "/_static/connect.html";

#[derive(Clone)]
pub struct Params {
    pub token: Secret,
    pub asked: Asked,
    /// One of the app's ways to authenticate.
    pub auth: Option<String>,
    /// Names this try, so that its outcome is found again.
    pub attempt: Option<String>,
    /// What is searched for among the apps.
    pub words: Option<String>,
    /// A page of its own, not a frame of a product's.
    pub link: bool,
    pub hide_close: bool,
    /// A window that was opened for the provider, beside the page that waits.
    pub window: bool,
}

impl Params {
    pub fn of(pairs: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| pairs.get(name).filter(|text| !text.is_empty()).cloned();
        let flag = |name: &str| pairs.get(name).is_some_and(|value| value == "true");
        let asked = Asked {
            app: text("app"),
            oauth_client: text("oauthAppId"),
            account: text("accountId"),
            profile: text("oauthScopeProfile"),
            app_override: text("appOverrideId"),
            own_client: flag("customOauthClient"),
        };
        Self {
            token: Secret::from(text("token").unwrap_or_default()),
            asked,
            auth: text("auth"),
            attempt: text("attempt").filter(|attempt| is_attempt(attempt)),
            words: text("q"),
            link: flag("connectLink"),
            hide_close: flag("hideClose"),
            window: flag("window"),
        }
    }

    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.token.expose().as_bytes())
    }

    /// Names and values, for hidden inputs.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let flag = |on: bool| on.then(|| "true".to_owned());
        let asked = &self.asked;
        let all = [
            ("token", Some(self.token.expose().to_owned())),
            ("app", asked.app.clone()),
            ("oauthAppId", asked.oauth_client.clone()),
            ("accountId", asked.account.clone()),
            ("oauthScopeProfile", asked.profile.clone()),
            ("appOverrideId", asked.app_override.clone()),
            ("customOauthClient", flag(asked.own_client)),
            ("auth", self.auth.clone()),
            ("attempt", self.attempt.clone()),
            ("q", self.words.clone()),
            ("connectLink", flag(self.link)),
            ("hideClose", flag(self.hide_close)),
            ("window", flag(self.window)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// The page as these say, on this server.
    pub fn address(&self) -> String {
        let query =
            form_urlencoded::Serializer::new(String::new()).extend_pairs(self.pairs()).finish();
        format!("{PAGE}?{query}")
    }

    pub fn with_app(&self, app: Option<&str>) -> Self {
        let asked = Asked { app: app.map(str::to_owned), ..self.asked.clone() };
        Self { asked, auth: None, attempt: None, words: None, ..self.clone() }
    }

    pub fn with_auth(&self, auth: &str) -> Self {
        Self { auth: Some(auth.to_owned()), attempt: None, ..self.clone() }
    }

    pub fn with_attempt(&self, attempt: Option<&str>) -> Self {
        Self { attempt: attempt.map(str::to_owned), ..self.clone() }
    }
}

fn is_attempt(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_said_again() {
        let query = "token=ctok_1&app=slack&oauthAppId=oa_1&accountId=apn_1&hideClose=true\
                     &oauthScopeProfile=read_only&appOverrideId=ao_1&customOauthClient=true&q=a%26b&attempt=00112233445566778899aabbccddeeff";
        let pairs: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let params = Params::of(&pairs);
        let address = params.address();
        let (_, said) = address.split_once('?').expect("a query");
        let again: BTreeMap<_, _> = form_urlencoded::parse(said.as_bytes()).into_owned().collect();
        assert_eq!(again, pairs);
        assert!(!params.link && params.hide_close);
    }

    #[test]
    fn an_attempt_is_hexadecimal_or_none() {
        for bad in ["", "x", "../..", "00112233445566778899aabbccddeef"] {
            let pairs = BTreeMap::from([("attempt".to_owned(), bad.to_owned())]);
            assert_eq!(Params::of(&pairs).attempt, None, "{bad}");
        }
    }
}

//! What is wrong or dangerous in how a definition gets its tokens.

use serde_json::Value;

use super::grants::{Assertion, Param, ParamPlace, Strategy};
use super::lint::Notes;
use super::{AuthKind, FieldKind, FieldOrigin, HostRule, Jwt, OAuth2};

/// What `alg` may be (RFC 7518 §3.1): what the signer can do. `none` is not among them.
pub const JWT_ALGORITHMS: [&str; 11] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "HS256", "HS384",
    "HS512",
];

/// Holes that a request for tokens fills itself, beside the account's own properties.
const OF_A_REQUEST: [&str; 15] = [
    "assertion",
    "client_assertion",
    "client_id",
    "client_private_key",
    "client_secret",
    "code",
    "code_verifier",
    "nonce",
    "oauth_access_token",
    "oauth_refresh_token",
    "redirect_uri",
    "scope",
    "state",
    "timestamp",
    "token_url",
];

impl Notes<'_> {
    pub(super) fn grants(&mut self) {
        let auth = self.auth();
        if let Some(jwt) = &auth.jwt {
            self.jwt(jwt);
        }
        let Some(oauth2) = &auth.oauth2 else { return };
        for (key, param) in all_params(oauth2) {
            self.param(key, param);
        }
        self.captured_hosts();
        self.callback(oauth2);
        self.refresh(oauth2);
        self.unsupported(oauth2);
        if !JWT_ALGORITHMS.contains(&oauth2.client_assertion.alg.as_str()) {
            self.mistake("oauth2.client_assertion.alg", unknown_algorithm());
        }
    }

    fn param(&mut self, key: &str, param: &Param) {
        match param {
            Param::Literal(_) => {}
            Param::Table(table) => table.values().for_each(|param| self.param(key, param)),
            Param::Text(template) => {
                for hole in template.holes() {
                    self.filled(key, hole);
                }
            }
        }
    }

    fn filled(&mut self, key: &str, hole: &str) {
        if !OF_A_REQUEST.contains(&hole) && !self.declares(hole) {
            self.mistake(key, format!("\"{{{hole}}}\" is not a declared field"));
        }
    }

    fn jwt(&mut self, jwt: &Jwt) {
        if !JWT_ALGORITHMS.contains(&jwt.alg.as_str()) {
            self.mistake("jwt.alg", unknown_algorithm());
        }
        for hole in holes_of_expression(&jwt.key) {
            self.filled("jwt.key", hole);
        }
        for (key, map) in [("jwt.claims", &jwt.claims), ("jwt.header", &jwt.header)] {
            for text in map.values().filter_map(Value::as_str) {
                holes_of_expression(text).for_each(|hole| self.filled(key, hole));
            }
        }
    }

    /// An answer that may name any host would be sent the token there.
    fn captured_hosts(&mut self) {
        let free = |rule: &HostRule| rule.suffixes.is_empty();
        for field in &self.auth().fields {
            let captured = matches!(
                field.origin,
                FieldOrigin::TokenResponse | FieldOrigin::Callback | FieldOrigin::PostExchange
            );
            let any_host = match &field.kind {
                FieldKind::Host(rule) | FieldKind::Url(rule) => free(rule),
                FieldKind::Text => false,
            };
            if captured && any_host && field.choices.is_empty() && field.pattern.is_none() {
                let text = format!(
                    "\"{}\" comes from an answer and may be any host; say its suffixes",
                    field.name
                );
                self.mistake("fields", text);
            }
        }
    }

    fn callback(&mut self, oauth2: &OAuth2) {
        if oauth2.issuer_in_callback && oauth2.issuer.is_none() {
            self.mistake("oauth2.issuer", "is missing, so that the callback's cannot be compared");
        }
        if let Some(check) = &oauth2.callback_verify {
            if check.method != "hmac-sha256" {
                self.mistake("oauth2.callback_verify.method", "is not \"hmac-sha256\"");
            }
            if !check.over.starts_with("sorted query without") {
                let text = "is not \"sorted query without …\", the parameter's name at its end";
                self.mistake("oauth2.callback_verify.over", text);
            }
        }
    }

    fn refresh(&mut self, oauth2: &OAuth2) {
        let (auth, refresh) = (self.auth(), &oauth2.refresh);
        if refresh.strategy == Some(Strategy::Reissue) && auth.kind == AuthKind::Oauth2 {
            let text =
                "\"reissue\" needs a grant without a person, and this one has a browser in it";
            self.mistake("oauth2.refresh.strategy", text);
        }
        let sends_token = || {
            let params = refresh.params.values().chain(refresh.headers.values());
            let params = params.chain(oauth2.refresh_params.values());
            refresh.token_in.is_some() || params.into_iter().any(holds_token)
        };
        if refresh.strategy == Some(Strategy::Exchange) && !sends_token() {
            let text = "has nothing with {oauth_access_token} in it, nor `token_in`";
            self.mistake("oauth2.refresh.params", text);
        }
        if refresh
            .lead
            .zip(refresh.min_interval)
            .is_some_and(|(lead, least)| lead.is_zero() && !least.is_zero())
        {
            self.mistake("oauth2.refresh.lead", "is zero: the token would end before its refresh");
        }
    }

    fn unsupported(&mut self, oauth2: &OAuth2) {
        let mut warn = |key: &str, text: &str| {
            let warning = self.at(key, text).warning();
            self.push(warning);
        };
        if oauth2.mtls {
            warn("oauth2.mtls", "client certificates are not supported: no token can be had");
        }
        if oauth2.assertion == Some(Assertion::Saml) {
            warn("oauth2.assertion", "SAML assertions are not supported: no token can be had");
        }
        if oauth2.refresh.token_in == Some(ParamPlace::Query) {
            warn("oauth2.refresh.token_in", "puts a token into the URL, which servers log");
        }
    }
}

fn unknown_algorithm() -> String {
    format!("is not one of {}", JWT_ALGORITHMS.join(", "))
}

fn holds_token(param: &Param) -> bool {
    match param {
        Param::Text(template) => {
            let holes = template.holes();
            holes.contains(&"oauth_access_token") || holes.contains(&"oauth_refresh_token")
        }
        Param::Literal(_) => false,
        Param::Table(table) => table.values().any(holds_token),
    }
}

fn all_params(o: &OAuth2) -> Vec<(&'static str, &Param)> {
    let maps = [
        ("oauth2.authorize_params", &o.authorize_params),
        ("oauth2.device_params", &o.device_params),
        ("oauth2.token_params", &o.token_params),
        ("oauth2.token_headers", &o.token_headers),
        ("oauth2.refresh_params", &o.refresh_params),
        ("oauth2.refresh.params", &o.refresh.params),
        ("oauth2.refresh.headers", &o.refresh.headers),
    ];
    let revoke =
        o.revoke.iter().flat_map(|r| [("oauth2.revoke", &r.headers), ("oauth2.revoke", &r.body)]);
    let later = o.post_exchange.iter().flat_map(|step| {
        [("oauth2.post_exchange", &step.headers), ("oauth2.post_exchange", &step.body)]
    });
    let maps = maps.into_iter().chain(revoke).chain(later);
    maps.flat_map(|(key, map)| map.values().map(move |param| (key, param))).collect()
}

/// `{key|after ":"}` is a hole named `key`.
fn holes_of_expression(expression: &str) -> impl Iterator<Item = &str> {
    let holes = expression.split('{').skip(1).filter_map(|piece| piece.split_once('}'));
    holes.map(|(hole, _)| hole.split('|').next().unwrap_or(hole).trim())
}

#[cfg(test)]
mod tests {
    use super::super::{lint, parse};

    fn found(auth: &str, oauth2: &str) -> String {
        let text = format!(
            r#"id = "x"
name = "X"
description = "for a test"
[auth.a]
kind = "oauth2"
hosts = ["api.acme.example"]
base_url = "https://api.acme.example"
attach = [{{ header = "Authorization", value = "Bearer {{oauth_access_token}}" }}]
{auth}
[auth.a.oauth2]
authorize_url = "https://acme.example/authorize"
token_url = "https://acme.example/token"
{oauth2}
"#
        );
        let app = parse::app("x.toml", &text).unwrap_or_else(|found| panic!("{found:?}"));
        lint(&app).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_definition_that_gets_no_token_or_gives_it_away_is_found() {
        assert_eq!(found("", ""), "");
        for (oauth2, part) in [
            ("token_params = { a = \"{other}\" }", "\"{other}\" is not a declared field"),
            ("token_params = { a = { b = \"{other}\" } }", "\"{other}\" is not a declared field"),
            ("refresh = { strategy = \"reissue\" }", "needs a grant without a person"),
            ("refresh = { strategy = \"exchange\" }", "{oauth_access_token}"),
            ("refresh = { token_in = \"query\" }", "which servers log"),
            ("issuer_in_callback = true", "oauth2.issuer: is missing"),
            ("client_assertion = { alg = \"none\" }", "is not one of RS256"),
            ("device_authorization_url = \"http://acme.example/d\"", "must start with https://"),
            ("mtls = true", "not supported"),
            (
                "callback_verify = { method = \"md5\", param = \"p\", key = \"k\", over = \"sorted query without p\" }",
                "is not \"hmac-sha256\"",
            ),
        ] {
            let found = found("", oauth2);
            assert!(found.contains(part), "{oauth2}: {found}");
        }
        let field = "fields = [{ name = \"u\", label = \"U\", secret = false, kind = \"url\", from = \"token_response\" }]";
        assert!(found(field, "").contains("may be any host"));
        let jwt = "jwt = { alg = \"HS256\", key = '{k|after \":\"}' }";
        assert!(found(jwt, "").contains("\"{k}\" is not a declared field"));
    }

    #[test]
    fn clear_text_is_for_this_machine_and_on_purpose() {
        let url = "revoke_url = \"http://as.acme.test:8080/revoke\"";
        assert!(found("", url).contains("clear_text = true allows"));
        assert_eq!(found("clear_text = true", url), "");
        let public = "revoke_url = \"http://acme.example/revoke\"";
        assert!(found("clear_text = true", public).contains("must start with https://"));
    }
}

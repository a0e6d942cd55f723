//! How the request must look.

use super::*;

#[test]
fn the_request_looks_as_the_server_wants_it() {
    check(&[
        Quirk {
            name: "26 27 28 31 rotation: the newest token is what counts",
            definition: Definition {
                oauth2: "client_auth = \"basic\"\nrefresh = { rotates = true, idle_ttl = \"90d\" }",
                ..CODE
            },
            act: Act::Refresh,
            sees: &["grant_type=refresh_token", "refresh_token=old-refresh-1", "!client_id"],
            answer: (200, r#"{"access_token":"at","refresh_token":"rt","expires_in":1800}"#),
            gives: &["refresh=rt", "refresh expires in 7776000"],
        },
        Quirk {
            name: "34 Shopify: expiring tokens are asked for",
            definition: Definition {
                oauth2: "token_content_type = \"json\"\ntoken_params = { expiring = \"1\" }",
                ..CODE
            },
            act: EXCHANGE,
            sees: &[
                r#"json {"client_id":"cid","client_secret":"client-secret-1","code":"c0de-123","code_verifier":"verifier-123","expiring":"1","grant_type":"authorization_code","redirect_uri":"https://cs.example/callback"}"#,
            ],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "37 47 Google: the refresh token is not repeated",
            definition: Definition { oauth2: "refresh = { rotates = false }", ..CODE },
            act: Act::Refresh,
            sees: &[],
            answer: PLAIN,
            gives: &["access=at", "!refresh"],
        },
        Quirk {
            name: "38 Microsoft: the reason is kept for people",
            definition: CODE,
            act: Act::Refresh,
            sees: &[],
            answer: (
                400,
                r#"{"error":"invalid_grant","error_description":"AADSTS700082: The refresh token has expired due to inactivity.\r\nTrace ID: 1","error_codes":[700082]}"#,
            ),
            gives: &[
                "dead invalid_grant",
                "AADSTS700082: The refresh token has expired due to inactivity. Trace ID: 1",
            ],
        },
        Quirk {
            name: "45 Facebook: the access token is exchanged",
            definition: Definition {
                oauth2: r#"refresh = { strategy = "exchange", method = "GET", url = "https://acme.example/x", params_drop = ["client_id", "client_secret"], params = { grant_type = "fb_exchange_token", client_id = "{client_id}", client_secret = "{client_secret}", fb_exchange_token = "{oauth_access_token}" } }"#,
                ..CODE
            },
            act: Act::Refresh,
            sees: &[
                "GET https://acme.example/x",
                "?grant_type=fb_exchange_token",
                "?fb_exchange_token=old-access-1",
                "?client_id=cid",
            ],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "45 Instagram: the access token alone, by GET",
            definition: Definition {
                oauth2: r#"client_auth = "custom"
refresh = { strategy = "exchange", method = "GET", params = { grant_type = "ig_refresh_token", access_token = "{oauth_access_token}" } }"#,
                ..CODE
            },
            act: Act::Refresh,
            sees: &[
                "?grant_type=ig_refresh_token",
                "?access_token=old-access-1",
                "!?client",
                "!authorization",
            ],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "46 Workday: the first refresh token stays",
            definition: Definition { oauth2: "refresh = { keep_token = true }", ..CODE },
            act: Act::Refresh,
            sees: &[],
            answer: (200, r#"{"access_token":"at","refresh_token":"another"}"#),
            gives: &["access=at", "!refresh"],
        },
        Quirk {
            name: "48 Pipedrive: Basic only",
            definition: Definition { oauth2: "client_auth = \"basic\"", ..CODE },
            act: EXCHANGE,
            sees: &["authorization: Basic Y2lkOmNsaWVudC1zZWNyZXQtMQ==", "!client_"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "49 BigChange: body only",
            definition: CODE,
            act: EXCHANGE,
            sees: &["client_secret=client-secret-1", "!authorization"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "51 Stripe Apps: the secret is the user",
            definition: Definition { oauth2: "client_auth = \"secret_as_user\"", ..CODE },
            act: EXCHANGE,
            sees: &["authorization: Basic Y2xpZW50LXNlY3JldC0xOg==", "!client_"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "52 30 Notion: JSON and Basic, a header of its own",
            definition: Definition {
                oauth2: "client_auth = \"basic\"\ntoken_content_type = \"json\"\npkce = \"unsupported\"\ntoken_headers = { Notion-Version = \"2022-06-28\" }",
                ..CODE
            },
            act: Act::Refresh,
            sees: &[
                "authorization: Basic Y2lkOmNsaWVudC1zZWNyZXQtMQ==",
                "notion-version: 2022-06-28",
                r#"json {"grant_type":"refresh_token","refresh_token":"old-refresh-1"}"#,
            ],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "53 Mercury: the id only",
            definition: Definition { oauth2: "client_auth = \"none\"", ..CODE },
            act: EXCHANGE,
            sees: &["client_id=cid", "!client_secret", "!authorization"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "53 nothing at all",
            definition: Definition { oauth2: "client_auth = \"custom\"", ..CODE },
            act: EXCHANGE,
            sees: &["!client", "!authorization"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "56 Workday: a scheme of its own",
            definition: Definition {
                oauth2: "client_auth = \"custom\"\ntoken_headers = { Authorization = \"ID base64({client_id}:{client_secret})\" }",
                ..MACHINE
            },
            act: Act::Obtain,
            sees: &[
                "authorization: ID Y2lkOmNsaWVudC1zZWNyZXQtMQ==",
                "grant_type=client_credentials",
            ],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "58 75 Basecamp: a type per step, no grant_type, a contact",
            definition: BASECAMP,
            act: EXCHANGE,
            sees: &["type=web_server", "!grant_type", "user-agent: Countersign (ops@acme.example)"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "58 Basecamp: refresh",
            definition: BASECAMP,
            act: Act::Refresh,
            sees: &["type=refresh", "!grant_type", "refresh_token=old-refresh-1"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "59 Zendesk: the life is asked for",
            definition: Definition {
                oauth2: "token_content_type = \"json\"\nclient_auth = \"custom\"\nrefresh_params = { expires_in = 1800 }",
                ..CODE
            },
            act: Act::Refresh,
            sees: &[
                r#"json {"expires_in":1800,"grant_type":"refresh_token","refresh_token":"old-refresh-1"}"#,
            ],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "60 Dynamics: a resource of this account on refresh",
            definition: Definition {
                auth: "fields = [{ name = \"env\", label = \"Environment\", secret = false }]",
                oauth2: "refresh_params = { resource = \"https://{env}.dynamics.example\", request = \"token\" }",
                properties: &[("env", "acme")],
                ..CODE
            },
            act: Act::Refresh,
            sees: &["resource=https://acme.dynamics.example", "request=token"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "60 61 Absorb, Walmart: keys and ids in headers",
            definition: Definition {
                kind: "oauth2_password",
                auth: "fields = [{ name = \"key\", label = \"Key\" }, { name = \"username\", label = \"User\", secret = false }, { name = \"password\", label = \"Password\" }]",
                oauth2: "token_headers = { X-Api-Key = \"{key}\", X-Time = \"{timestamp}\" }",
                properties: &[("key", "k-123456"), ("username", "ann"), ("password", "pa55-word")],
            },
            act: Act::Obtain,
            sees: &[
                "x-api-key: k-123456",
                "x-time: 1800000000",
                "grant_type=password",
                "username=ann",
                "password=pa55-word",
            ],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "62 Bullhorn: a POST with everything in the query",
            definition: Definition { oauth2: "token_content_type = \"query\"", ..CODE },
            act: EXCHANGE,
            sees: &[
                "POST https://acme.example/token",
                "?code=c0de-123",
                "?client_secret=client-secret-1",
                "content-length: 0",
                "!code",
            ],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "63 Figma: refresh elsewhere, without grant_type",
            definition: Definition {
                oauth2: "refresh_url = \"https://acme.example/refresh\"\nrefresh = { params_drop = [\"grant_type\"] }",
                ..CODE
            },
            act: Act::Refresh,
            sees: &[
                "POST https://acme.example/refresh",
                "!grant_type",
                "refresh_token=old-refresh-1",
            ],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "64 Follow Up Boss: the state goes along",
            definition: Definition { oauth2: "token_params = { state = \"{state}\" }", ..CODE },
            act: EXCHANGE,
            sees: &["state=st4te-123"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "65 86 servers: no PKCE",
            definition: Definition { oauth2: "pkce = \"unsupported\"", ..CODE },
            act: Act::Authorize,
            sees: &["!?code_challenge", "?response_type=code"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "66 monday: no response_type",
            definition: Definition {
                oauth2: "authorize_params_drop = [\"response_type\"]",
                ..CODE
            },
            act: Act::Authorize,
            sees: &["!?response_type", "?code_challenge_method=S256"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "67 Freelancer: scopes under another name, joined otherwise",
            definition: Definition {
                oauth2: "scope_param = \"advanced_scopes\"\nscopes_separator = \"|\"",
                ..CODE
            },
            act: Act::Authorize,
            sees: &["?advanced_scopes=read|write", "!?scope"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "68 44 Google: offline access is asked for",
            definition: Definition {
                oauth2: "default_scopes = [\"offline_access\", \"read\"]\nauthorize_params = { access_type = \"offline\", prompt = \"consent\" }",
                ..CODE
            },
            act: Act::Authorize,
            sees: &["?access_type=offline", "?prompt=consent", "?scope=offline_access read write"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "69 Microsoft: one tenant instead of all",
            definition: Definition {
                auth: "fields = [{ name = \"tenant\", label = \"Tenant\", secret = false, optional = true }]",
                oauth2: "token_url = \"https://login.acme.example/common/oauth2/v2.0/token\"\ntenant_placeholder = \"common\"",
                properties: &[("tenant", "contoso")],
                ..CODE
            },
            act: EXCHANGE,
            sees: &["POST https://login.acme.example/contoso/oauth2/v2.0/token"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "70 Okta: the tenant is in the host",
            definition: Definition {
                auth: "fields = [{ name = \"sub\", label = \"Subdomain\", secret = false }]",
                oauth2: "token_url = \"https://{sub}.acme.example/oauth2/token\"",
                properties: &[("sub", "Wayne")],
                ..CODE
            },
            act: Act::Refresh,
            sees: &["POST https://wayne.acme.example/oauth2/token"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "71 Zoho: the callback names the server that has the code",
            definition: ZOHO,
            act: Act::Exchange(&[
                ("accounts-server", "https://accounts.zoho.eu"),
                ("location", "eu"),
            ]),
            sees: &["POST https://accounts.zoho.eu/oauth/v2/token"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "73 Amazon: another name for the code",
            definition: Definition {
                oauth2: "callback_code_param = \"spapi_oauth_code\"\nauthorize_params = { application_id = \"{client_id}\" }",
                ..CODE
            },
            act: Act::Exchange(&[("spapi_oauth_code", "c0de-7")]),
            sees: &["code=c0de-7"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "74 Square: a code that is encoded twice",
            definition: Definition { oauth2: "callback_code_encoded = true", ..CODE },
            act: Act::Exchange(&[("code", "sq0cgp-a%2Fb")]),
            sees: &["code=sq0cgp-a/b"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "revocation as RFC 7009 has it",
            definition: Definition {
                oauth2: "client_auth = \"basic\"\nrevoke_url = \"https://acme.example/revoke\"",
                ..CODE
            },
            act: Act::Revoke,
            sees: &[
                "POST https://acme.example/revoke",
                "token=old-refresh-1",
                "token_type_hint=refresh_token",
                "authorization: Basic Y2lkOmNsaWVudC1zZWNyZXQtMQ==",
            ],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "revocation as GitHub has it",
            definition: Definition {
                oauth2: "revoke = { method = \"DELETE\", url = \"https://acme.example/applications/{client_id}/token\", auth = \"client_basic\", content_type = \"json\", body = { access_token = \"{oauth_access_token}\" } }",
                ..CODE
            },
            act: Act::Revoke,
            sees: &[
                "DELETE https://acme.example/applications/cid/token",
                r#"json {"access_token":"old-access-1"}"#,
                "authorization: Basic Y2lkOmNsaWVudC1zZWNyZXQtMQ==",
            ],
            answer: PLAIN,
            gives: GOOD,
        },
    ]);
}

const BASECAMP: Definition = Definition {
    oauth2: r#"token_params_drop = ["grant_type"]
token_params = { type = "web_server" }
refresh_params = { type = "refresh" }
token_headers = { User-Agent = "Countersign (ops@acme.example)" }"#,
    ..CODE
};
const ZOHO: Definition = Definition {
    auth: r#"fields = [{ name = "accounts", label = "Accounts", secret = false, kind = "url", suffixes = ["zoho.com", "zoho.eu"], from = "callback", default = "https://accounts.zoho.com" }]"#,
    oauth2: r#"authorize_url = "https://accounts.zoho.com/oauth/v2/auth"
token_url = "{accounts}/oauth/v2/token"
capture = [{ from = "callback", param = "accounts-server", as = "accounts" }]"#,
    ..CODE
};

#[test]
fn a_server_of_the_callback_outside_the_list_is_sent_nothing() {
    for server in [
        "https://accounts.zoho.evil.example",
        "http://accounts.zoho.eu",
        "https://accounts.zoho.eu@evil.example",
    ] {
        let params: &'static [(&str, &str)] = Box::leak(Box::new([("accounts-server", server)]));
        let error = seen(&ZOHO, Act::Exchange(params)).expect_err(server);
        assert!(error.contains("accounts") && !error.contains(server), "{error}");
    }
}

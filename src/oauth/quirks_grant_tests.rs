//! Grants without a user.

use super::*;

#[test]
fn grants_without_a_user_are_made_as_the_definition_says() {
    check(&[
        Quirk {
            name: "76 Zoom: a grant of its own",
            definition: Definition {
                auth: "fields = [{ name = \"account_id\", label = \"Account\", secret = false }]",
                oauth2: "client_auth = \"basic\"\ngrant_type = \"account_credentials\"\ntoken_params = { account_id = \"{account_id}\" }",
                properties: &[("account_id", "a1")],
                ..MACHINE
            },
            act: Act::Obtain,
            sees: &[
                "grant_type=account_credentials",
                "account_id=a1",
                "authorization: Basic Y2lkOmNsaWVudC1zZWNyZXQtMQ==",
            ],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "77 Auth0: an audience in JSON",
            definition: Definition {
                oauth2: "token_content_type = \"json\"\naudience = [\"https://acme.example/api\"]\ndefault_scopes = [\"a\", \"b\"]",
                ..MACHINE
            },
            act: Act::Refresh,
            sees: &[
                r#"json {"audience":"https://acme.example/api","client_id":"cid","client_secret":"client-secret-1","grant_type":"client_credentials","scope":"a b"}"#,
            ],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "78 Greenhouse: grant_type in the URL",
            definition: Definition {
                oauth2: "token_url = \"https://acme.example/token?grant_type=client_credentials\"\ntoken_params_drop = [\"grant_type\"]\nclient_auth = \"basic\"",
                ..MACHINE
            },
            act: Act::Obtain,
            sees: &[
                "POST https://acme.example/token",
                "?grant_type=client_credentials",
                "!grant_type",
            ],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "85 Acumatica: a password",
            definition: Definition {
                kind: "oauth2_password",
                auth: "fields = [{ name = \"username\", label = \"User\", secret = false }, { name = \"password\", label = \"Password\" }]",
                oauth2: "default_scopes = [\"api\"]",
                properties: &[("username", "ann"), ("password", "pa55 word")],
            },
            act: Act::Obtain,
            sees: &[
                "grant_type=password",
                "username=ann",
                "password=pa55 word",
                "scope=api",
                "client_id=cid",
            ],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "86 a login: nested JSON, an end as \"24h\"",
            definition: Definition {
                auth: "fields = [{ name = \"user\", label = \"User\", secret = false }, { name = \"pass\", label = \"Password\" }]",
                oauth2: "client_auth = \"custom\"\ntoken_content_type = \"json\"\ntoken_params = { login = { name = \"{user}\", secret = \"{pass}\", remember = true } }\ntoken_fields = { access_token = \"/session/token\", expires_in = \"/session/ttl\" }",
                properties: &[("user", "ann"), ("pass", "pa55word")],
                ..POSTED
            },
            act: Act::Refresh,
            sees: &[r#"json {"login":{"name":"ann","remember":true,"secret":"pa55word"}}"#],
            answer: (200, r#"{"session":{"token":"at","ttl":"24h"}}"#),
            gives: &["access=at", "expires in 86400"],
        },
        Quirk {
            name: "86 a login whose whole answer is the token",
            definition: Definition {
                oauth2: "client_auth = \"custom\"\ntoken_fields = { access_token = \"\" }\nexpires_in = 600",
                ..POSTED
            },
            act: Act::Obtain,
            sees: &["POST https://acme.example/token"],
            answer: (200, "\"t0ken-as-text==\""),
            gives: &["access=t0ken-as-text==", "expires in 600"],
        },
        Quirk {
            name: "87 setmore: GET with the secret in the query",
            definition: Definition {
                auth: "fields = [{ name = \"key\", label = \"Key\" }]",
                oauth2: "client_auth = \"custom\"\ntoken_method = \"GET\"\ntoken_params = { refreshToken = \"{key}\" }\ntoken_fields = { access_token = \"/data/token/access_token\" }",
                properties: &[("key", "r-123456")],
                ..POSTED
            },
            act: Act::Obtain,
            sees: &["GET https://acme.example/token", "?refreshToken=r-123456"],
            answer: (200, r#"{"data":{"token":{"access_token":"at"}}}"#),
            gives: &["access=at"],
        },
        Quirk {
            name: "88 Okta: the grant is its own refresh",
            definition: Definition { oauth2: "client_auth = \"basic\"", ..MACHINE },
            act: Act::Refresh,
            sees: &["grant_type=client_credentials", "!refresh_token"],
            answer: PLAIN,
            gives: GOOD,
        },
        Quirk {
            name: "RFC 8693: one token for another",
            definition: Definition {
                auth: "fields = [{ name = \"subject\", label = \"Subject token\" }]",
                oauth2: "client_auth = \"basic\"\ngrant_type = \"token_exchange\"\ntoken_params = { subject_token = \"{subject}\", subject_token_type = \"urn:ietf:params:oauth:token-type:jwt\" }",
                properties: &[("subject", "s-123456")],
                ..POSTED
            },
            act: Act::Obtain,
            sees: &[
                "grant_type=urn:ietf:params:oauth:grant-type:token-exchange",
                "subject_token=s-123456",
            ],
            answer: (
                200,
                r#"{"access_token":"at","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"N_A","expires_in":60}"#,
            ),
            gives: &["access=at", "expires in 60"],
        },
    ]);
}

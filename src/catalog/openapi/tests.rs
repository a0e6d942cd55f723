use super::*;

fn derived(text: &str) -> Derived {
    derive(text, Wishes::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn with(servers: &str, schemes: &str) -> String {
    format!(
        "openapi: 3.0.3\ninfo: {{ title: Acme API, version: '1' }}\nservers: {servers}\n\
         components:\n  securitySchemes:\n    key: {schemes}\n\
         paths:\n  /things: {{ get: {{ responses: {{}} }} }}\n  /me: {{ get: {{ responses: {{}} }} }}\n"
    )
}

const SERVER: &str = "[{ url: 'https://api.acme.example.co/v1' }]";

#[test]
fn every_scheme_that_a_proxy_can_send_is_derived() {
    for (scheme, line) in [
        (
            "{ type: apiKey, in: header, name: X-Api-Key }",
            r#"{ header = "X-Api-Key", value = "{api_key}" }"#,
        ),
        ("{ type: apiKey, in: query, name: key }", r#"{ query = "key", value = "{api_key}" }"#),
        ("{ type: apiKey, in: cookie, name: sid }", r#"{ cookie = "sid", value = "{api_key}" }"#),
        (
            "{ type: http, scheme: bearer }",
            r#"{ header = "Authorization", value = "Bearer {api_key}" }"#,
        ),
        (
            "{ type: http, scheme: Basic }",
            r#"{ basic = { username = "{username}", password = "{password}" } }"#,
        ),
        ("{ type: http, scheme: GenieKey }", r#"value = "GenieKey {token}""#),
        (
            "{ type: apiKey, in: header, name: Authorization, description: 'Token <your key>' }",
            r#"value = "Token {api_key}""#,
        ),
    ] {
        let found = derived(&with(SERVER, scheme));
        assert!(found.toml.contains(line), "{scheme}:\n{}", found.toml);
        assert!(
            found.toml.contains("url = \"https://api.acme.example.co/v1/me\""),
            "{}",
            found.toml
        );
        assert_eq!(found.id, "acme");
    }
}

#[test]
fn flows_become_grants() {
    let scopes = "scopes: { read: r, write: w }";
    let scheme = format!(
        "{{ type: oauth2, flows: {{ authorizationCode: {{ authorizationUrl: 'https://acme.co/a', \
         tokenUrl: 'https://acme.co/t', refreshUrl: 'https://acme.co/r', {scopes} }}, \
         clientCredentials: {{ tokenUrl: 'https://acme.co/t', scopes: {{}} }} }} }}"
    );
    let toml = derived(&with(SERVER, &scheme)).toml;
    for part in [
        "[auth.oauth]",
        "authorize_url = \"https://acme.co/a\"",
        "refresh_url = \"https://acme.co/r\"",
        "suggested_scopes = [\"read\", \"write\"]",
        "[auth.client_credentials]",
    ] {
        assert!(toml.contains(part), "{part} in {toml}");
    }
}

#[test]
fn what_cannot_be_derived_is_said() {
    for (servers, scheme, remark) in [
        (SERVER, "{ type: mutualTLS }", "mutualtls"),
        (SERVER, "{ type: openIdConnect, openIdConnectUrl: 'https://a.co/x' }", "https://a.co/x"),
        (SERVER, "{ type: http, scheme: digest }", "digest"),
        (SERVER, "{ type: apiKey, in: header, name: authorization }", "Bearer, Token"),
        ("[{ url: 'http://api.acme.co' }]", "{ type: http, scheme: basic }", "only https"),
        (
            SERVER,
            "{ type: oauth2, flows: { implicit: { authorizationUrl: 'https://a.co', scopes: {} } } }",
            "implicit flow only",
        ),
    ] {
        let found = derived(&with(servers, scheme));
        assert!(found.remarks.iter().any(|r| r.contains(remark)), "{remark}: {:?}", found.remarks);
    }
}

#[test]
fn variables_of_a_host_are_fields_that_cannot_leave_it() {
    let servers = "[{ url: 'https://{sub-domain}.acme.co/{version}', variables: { sub-domain: \
                   { default: demo }, version: { default: v2 } } }, { url: 'https://{region}.acme.dev', \
                   variables: { region: { default: eu, enum: [eu, us] } } }]";
    let toml = derived(&with(servers, "{ type: http, scheme: basic }")).toml;
    for part in [
        "hosts = [\"{sub_domain}.acme.co\", \"{region}.acme.dev\"]",
        "base_url = \"https://{sub_domain}.acme.co/v2\"",
        "enum = [\"eu\", \"us\"]",
        "pattern = \"^[A-Za-z0-9](?:",
    ] {
        assert!(toml.contains(part), "{part} in {toml}");
    }
}

#[test]
fn a_document_that_gives_nothing_or_leads_astray_is_refused() {
    let scheme = "{ type: http, scheme: basic }";
    for (text, part) in [
        ("{".to_owned(), "neither JSON nor YAML"),
        ("a: 1".to_owned(), "no OpenAPI document"),
        ("openapi: 4.0.0".to_owned(), "OpenAPI 4.0.0 is not known"),
        (with("[{ url: 'https://localhost:8080' }]", scheme), "nobody in particular"),
        (with("[{ url: 'https://10.0.0.1/x' }]", scheme), "nobody in particular"),
        (with("[{ url: 'https://api.example.com' }]", scheme), "nobody in particular"),
        (with("[{ url: '/v1' }]", scheme), "relative"),
        (with("[{ url: 'https://{x}.com' }]", scheme), "anyone can register"),
        (with("[{ url: 'ftp://api.acme.co' }]", scheme), "not https"),
        (with("[{ url: 'https://user@acme.co' }]", scheme), "character"),
    ] {
        let error = derive(&text, Wishes::default()).map(|found| found.toml);
        let error = error.expect_err(&text).to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    let relative = with("[{ url: '/v1' }]", scheme);
    let wishes = Wishes { url: Some("https://api.acme.co/openapi.yaml"), id: Some("my_api") };
    let found = derive(&relative, wishes).expect("its own address counts");
    assert!(found.toml.contains("base_url = \"https://api.acme.co/v1\"") && found.id == "my_api");
    assert!(derive(&relative, Wishes { id: Some("../x"), ..wishes }).is_err());
}

#[test]
fn schemes_that_are_needed_together_are_one_way() {
    let text = "openapi: 3.1.0\ninfo: { title: Acme, version: '1' }\nservers: [{ url: 'https://api.acme.co' }]\n\
                security: [{ app: [], key: [] }]\ncomponents:\n  securitySchemes:\n    \
                app: { type: apiKey, in: header, name: X-App-Id }\n    \
                key: { type: apiKey, in: header, name: X-Api-Key }\n";
    let toml = derived(text).toml;
    assert_eq!(toml.matches("[auth.").count() - toml.matches(".fields]").count(), 1, "{toml}");
    assert!(toml.contains("X-App-Id") && toml.contains("X-Api-Key"), "{toml}");
}

#[test]
fn a_host_beside_a_key_is_no_way_of_its_own() {
    let text = "openapi: 3.0.1\ninfo: { title: Acme, version: '1' }\nservers: [{ url: 'https://acme.p.rapidapi.com' }]\n\
                security: [{ host: [] }, { key: [] }]\ncomponents:\n  securitySchemes:\n    \
                host: { type: apiKey, in: header, name: X-RapidAPI-Host }\n    \
                key: { type: apiKey, in: header, name: X-RapidAPI-Key }\n";
    let found = derived(text);
    assert_eq!(found.toml.matches("\n[auth.").count(), 1, "{}", found.toml);
    assert!(found.toml.contains("header = \"X-RapidAPI-Key\""), "{}", found.toml);
    assert!(found.remarks.iter().any(|r| r.contains("no credential")), "{:?}", found.remarks);
}

#[test]
fn swagger_is_understood() {
    let text = r#"{"swagger": "2.0", "info": {"title": "Acme"}, "host": "api.acme.co", "basePath": "/v1",
        "schemes": ["http", "https"], "securityDefinitions": {"o": {"type": "oauth2",
        "flow": "accessCode", "authorizationUrl": "https://acme.co/a", "tokenUrl": "https://acme.co/t",
        "scopes": {"r": ""}}, "b": {"type": "basic"}}, "paths": {"/users/{id}": {"get": {}}}}"#;
    let toml = derived(text).toml;
    for part in ["base_url = \"https://api.acme.co/v1\"", "kind = \"oauth2\"", "kind = \"basic\""] {
        assert!(toml.contains(part), "{part} in {toml}");
    }
}

//! The OpenAPI importer on documents of real APIs: each gives a definition that passes the lint and
//! says what the document says, or a refusal that says why.

use std::path::Path;

use countersign::catalog::Catalog;
use countersign::catalog::openapi::{Derived, Error, Wishes, derive};

fn documents() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/catalog/openapi");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the fixtures are there") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        if !name.ends_with(".md") {
            found.push((name, std::fs::read_to_string(&path).expect("it reads")));
        }
    }
    found.sort();
    found
}

fn derived(name: &str) -> Result<Derived, Error> {
    let all = documents();
    let (_, text) = all.iter().find(|(file, _)| file == name).expect(name);
    derive(text, Wishes::default())
}

#[test]
fn real_documents_give_definitions_that_pass_the_lint() {
    let documents = documents();
    assert!(documents.len() >= 20, "{}", documents.len());
    for (name, text) in documents {
        let found = match derive(&text, Wishes::default()) {
            Ok(found) => found,
            // The bot's token is a part of its servers' addresses.
            Err(error) => {
                assert!(name == "telegram_org.json", "{name}: {error}");
                assert!(error.to_string().contains("secret"), "{error}");
                continue;
            }
        };
        let file = (format!("{}.toml", found.id), found.toml.clone());
        let catalog =
            Catalog::build([file]).unwrap_or_else(|m| panic!("{name}: {}", crate::shown(&m)));
        let app = catalog.app(&found.id).expect("it is there");
        assert!(!app.auths.is_empty() && !app.auths[0].hosts.is_empty(), "{name}");
    }
}

#[test]
fn a_definition_says_what_its_document_says() {
    for (name, parts) in [
        (
            "asana_com.json",
            &[
                "https://app.asana.com/api/1.0",
                "https://app.asana.com/-/oauth_token",
                "kind = \"bearer\"",
            ][..],
        ),
        (
            "atlassian_com_jira.json",
            &[
                "{subdomain}.atlassian.net",
                "https://auth.atlassian.com/oauth/token",
                "kind = \"basic\"",
            ],
        ),
        ("box_com.yaml", &["https://api.box.com/oauth2/token", "kind = \"oauth2\""]),
        ("bungie_net.json", &["https://www.bungie.net/Platform"]),
        ("circleci_com.json", &["query = \"circle-token\"", "https://circleci.com/api/v1/me"]),
        ("digitalocean_com.yaml", &["Bearer {", "https://api.digitalocean.com"]),
        ("mailchimp_com.json", &["basic = { username ="]),
        ("plaid_com.json", &["PLAID-CLIENT-ID", "production.plaid.com", "sandbox.plaid.com"]),
        (
            "spotify_com.yaml",
            &["https://accounts.spotify.com/api/token", "https://api.spotify.com/v1/me"],
        ),
        ("stripe_com.yaml", &["https://api.stripe.com", "kind = \"basic\""]),
        ("trello_com.yaml", &["query = \"key\"", "query = \"token\""]),
        ("vimeo_com.json", &["https://api.vimeo.com/oauth/authorize"]),
    ] {
        let found = derived(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        for part in parts {
            assert!(found.toml.contains(part), "{name}: {part} in\n{}", found.toml);
        }
    }
}

#[test]
fn what_a_document_leaves_open_is_said() {
    for (name, remark) in [
        ("netlify_com.yaml", "implicit flow only"),
        ("sendgrid_com.json", "only https"),
        ("getpostman_com.json", "does not say how requests are authenticated"),
    ] {
        let found = derived(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(found.remarks.iter().any(|r| r.contains(remark)), "{name}: {:?}", found.remarks);
    }
}

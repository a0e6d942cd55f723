//! What a careful reader would stumble over: words, addresses and requests that nobody looked at.

use std::collections::BTreeMap;

use countersign::catalog::{App, Auth};

use crate::{apps, assert_none, catalog};

/// Every app's complaint, named.
fn each_app(what: &str, complaint: impl Fn(&App) -> Option<String>) {
    let catalog = catalog();
    let wrong: Vec<String> = apps(&catalog)
        .iter()
        .filter_map(|app| Some(format!("{}: {}", app.id, complaint(app)?)))
        .collect();
    assert_none(what, &wrong);
}

fn each_auth(what: &str, complaint: impl Fn(&Auth) -> Option<String>) {
    each_app(what, |app| {
        app.auths.iter().find_map(|auth| Some(format!("{}: {}", auth.id, complaint(auth)?)))
    });
}

#[test]
fn no_two_apps_have_one_name() {
    let catalog = catalog();
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for app in apps(&catalog) {
        by_name.entry(app.name.to_lowercase()).or_default().push(app.id.to_string());
    }
    let twins = by_name.into_iter().filter(|(_, ids)| ids.len() > 1);
    let wrong: Vec<String> =
        twins.map(|(name, ids)| format!("{name}: {}", ids.join(", "))).collect();
    assert_none("names", &wrong);
}

#[test]
fn a_description_is_a_line_in_words() {
    each_app("descriptions", |app| {
        let line = &app.description;
        let starts = line.chars().next().is_some_and(|c| c.is_uppercase() || c.is_ascii_digit());
        let own = ["iMessage"].iter().any(|name| line.starts_with(name));
        let length = line.chars().count();
        let says = !line.starts_with("The API of") && !line.starts_with("An API at");
        let good = (starts || own) && !line.ends_with('.') && (5..=80).contains(&length) && says;
        (!good).then(|| line.clone())
    });
}

#[test]
fn every_app_has_one_to_three_categories() {
    each_app("categories", |app| {
        let count = app.categories.len();
        (!(1..=3).contains(&count)).then(|| format!("{count}"))
    });
}

/// A category with one app in it helps nobody to find it.
#[test]
fn no_category_is_nearly_empty() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for app in apps(&catalog()) {
        for category in &app.categories {
            *counts.entry(category.clone()).or_default() += 1;
        }
    }
    let few = counts.iter().filter(|(_, count)| **count < 3);
    let wrong: Vec<String> = few.map(|(name, count)| format!("{name}: {count}")).collect();
    assert_none("categories", &wrong);
}

#[test]
fn a_label_is_short_and_starts_with_a_capital_and_a_help_is_a_sentence() {
    each_auth("labels", |auth| {
        auth.fields.iter().find_map(|field| {
            let label = &field.label;
            let starts = label.chars().next().is_some_and(char::is_uppercase);
            let neat = starts && label.len() <= 45 && !label.ends_with([':', '.', '*', '?']);
            let ends = field.help.as_deref().is_none_or(|help| help.ends_with(['.', '@', ')']));
            (!neat || !ends || label.contains('_')).then(|| format!("{label} {:?}", field.help))
        })
    });
}

#[test]
fn a_base_url_is_no_endpoint() {
    each_auth("base URLs", |auth| {
        let url = auth.base_url.source();
        let path = url.split_once("://").map_or(url, |(_, rest)| rest);
        let file = [".aspx", ".ashx", ".cgi", ".html"].iter().any(|end| path.ends_with(end));
        let verb = ["/create", "/find", "/search", "/generate", "/list", "/upload", "/delete"];
        let ends_in_verb = verb.iter().any(|verb| path.ends_with(verb));
        (file || ends_in_verb || path.contains("//") || path.contains('?')).then(|| url.to_owned())
    });
}

#[test]
fn documentation_is_a_page_for_everybody() {
    each_app("documentation", |app| {
        let url = app.docs_url.as_deref()?;
        let tracks = ["utm_", "gclid", "fbclid"].iter().any(|word| url.contains(word));
        let searches = url.contains("google.com/search") || url.contains("bing.com/search");
        (tracks || searches || !url.starts_with("https://")).then(|| url.to_owned())
    });
}

/// A test request changes nothing. What is no GET asks a question in its body.
#[test]
fn a_test_request_is_harmless() {
    const QUESTIONS: [&str; 8] = [
        "https://api.dropboxapi.com/2/users/get_current_account",
        "https://slack.com/api/auth.test",
        "https://production.plaid.com/institutions/get",
        "https://api.exa.ai/search",
        "https://api.perplexity.ai/chat/completions",
        "https://{account}.snowflakecomputing.com/api/v2/statements",
        "/graphql",
        "https://api.monday.com/v2",
    ];
    each_auth("test requests", |auth| {
        let test = auth.test.as_ref()?;
        let url = test.url.source();
        let asks = QUESTIONS
            .iter()
            .any(|known| url == *known || known.starts_with('/') && url.ends_with(known));
        let body = test.body.as_ref().map(ToString::to_string).unwrap_or_default();
        let changes = body.contains("mutation")
            || ["INSERT", "DELETE", "UPDATE"].iter().any(|w| body.contains(w));
        let harmless =
            matches!(test.method.as_str(), "GET" | "HEAD") || (test.method == "POST" && asks);
        let open = ["YOUR_", "<", ">", "xxx", ":id"].iter().any(|sign| url.contains(sign));
        (!harmless || changes || open).then(|| format!("{} {url}", test.method))
    });
}

/// A name below a platform's own is free again when its project is gone.
#[test]
fn no_credential_goes_to_a_name_that_a_platform_lends() {
    const LENT: [&str; 10] = [
        ".herokuapp.com",
        ".onrender.com",
        ".appspot.com",
        ".azurewebsites.net",
        ".vercel.app",
        ".netlify.app",
        ".run.app",
        ".ngrok.io",
        ".cloudfront.net",
        ".example.com",
    ];
    each_auth("hosts", |auth| {
        auth.hosts.iter().map(ToString::to_string).find(|host| {
            let name = host.split('/').next().unwrap_or_default();
            !name.contains('{')
                && (LENT.iter().any(|end| name.ends_with(end)) || name.contains(".execute-api."))
        })
    });
}

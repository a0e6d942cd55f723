use super::*;
use crate::catalog::Catalog;

fn first(query: &str) -> Option<String> {
    let catalog = Catalog::embedded().expect("the embedded apps load");
    catalog.ranked(query).first().map(|card| card.id.to_string())
}

#[test]
fn an_app_is_found_by_what_a_person_would_call_it() {
    for (query, app) in [
        ("slack", Some("slack")),
        ("SLACK", Some("slack")),
        ("slak", Some("slack")),
        ("gihtub", Some("github")),
        ("shoppify", Some("shopify")),
        ("google sheets", Some("google_sheets")),
        ("google_sheets", Some("google_sheets")),
        ("sheets google", Some("google_sheets")),
        ("goglesheets", Some("google_sheets")),
        ("api.notion.com", Some("notion")),
        ("https://api.notion.com/v1/users", Some("notion")),
        ("acme.zendesk.com", Some("zendesk")),
        ("zendesk.com", Some("zendesk")),
        ("open ai", Some("openai")),
        ("gmial", Some("gmail")),
        ("google calender", Some("google_calendar")),
        ("notin", Some("notion")),
        ("outlok", Some("microsoft_outlook")),
        ("salesforse", Some("salesforce_rest_api")),
        ("sales force", Some("salesforce_rest_api")),
        ("hubspto", Some("hubspot")),
        ("stripe payments", Some("stripe")),
        ("twillio", Some("twilio")),
        ("x twitter", Some("twitter")),
        ("whatsap", Some("whatsapp_business")),
        ("ms teams", Some("microsoft_teams")),
        ("airtabel", Some("airtable")),
        ("quick books", Some("quickbooks")),
        ("trelo", Some("trello")),
        ("dropbx", Some("dropbox")),
        ("claude", Some("anthropic")),
        ("calendar", Some("google_calendar")),
        ("no-such-app-at-all", None),
    ] {
        assert_eq!(first(query).as_deref(), app, "{query}");
    }
}

#[test]
fn a_category_finds_its_apps_and_nothing_finds_all() {
    let catalog = Catalog::embedded().expect("the embedded apps load");
    let weather = catalog.ranked("weather");
    assert!(weather.iter().any(|card| card.id.as_str() == "openweathermap"));
    assert_eq!(catalog.ranked(" ").len(), catalog.len());
}

#[test]
fn a_slip_counts_only_when_nobody_is_called_so() {
    let catalog = Catalog::embedded().expect("the embedded apps load");
    // `box` is one slip from `xbox` and `fox`, and many are described with `box`.
    let found = catalog.ranked("slack");
    let score = |card: &Card| score(card, "slack", &["slack"]);
    assert!(found.iter().all(|card| score(card).is_some_and(|points| points > SLIP)));
}

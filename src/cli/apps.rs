//! `countersign apps list | show | lint`: what the catalog knows, as text for people and JSON for
//! scripts. Pure: a catalog in, text or values out. Lists read no definition.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::catalog::{App, Auth, Card, Catalog, Confidence, Field, FieldOrigin, Mistake};
use crate::inject::{Attachment, Signature, When};

/// One line per app; with `words`, the apps that have them, best first.
pub fn list(catalog: &Catalog, words: Option<&str>) -> String {
    let cards = chosen(catalog, words);
    if let (Some(words), true) = (words, cards.is_empty()) {
        return format!(
            "no app matches \"{words}\"; `countersign apps add FILE` adds one of your own\n"
        );
    }
    self::cards(&cards)
}

/// A table of these.
pub fn cards(cards: &[&Card]) -> String {
    let heading = ["APP", "NAME", "AUTH", "HOSTS"].map(str::to_owned);
    let rows: Vec<[String; 4]> = cards.iter().map(|card| row(card)).collect();
    let mut out = table(std::iter::once(&heading).chain(&rows));
    if cards.iter().any(|card| card.confidence.caution().is_some()) {
        out.push_str("* known from one source only: check the hosts before you connect it\n");
    }
    out
}

/// The same as [`list`], for scripts.
pub fn list_json(catalog: &Catalog, words: Option<&str>) -> Value {
    cards_json(&chosen(catalog, words))
}

/// The same as [`cards`], for scripts.
pub fn cards_json(cards: &[&Card]) -> Value {
    let app = |card: &&Card| {
        json!({
            "id": card.id,
            "name": card.name,
            "description": card.description,
            "categories": card.categories().collect::<Vec<_>>(),
            "tier": card.tier,
            "confidence": card.confidence,
            "auth": card.auths().map(|(id, _)| id).collect::<Vec<_>>(),
            "hosts": card.hosts().collect::<Vec<_>>(),
        })
    };
    cards.iter().map(app).collect()
}

/// How many apps there are, how well they are founded, and how they authenticate.
pub fn count(catalog: &Catalog) -> String {
    let with = |has: &dyn Fn(&Card) -> bool| catalog.cards().filter(|card| has(card)).count();
    let agreed = with(&|card| card.confidence == Confidence::Verified);
    let mut out = String::new();
    let mut line = |what: &str, count: usize| {
        let _ = writeln!(out, "{count:6}  {what}");
    };
    line("apps", catalog.len());
    line("checked by hand or agreed by two sources", agreed);
    line("known from one source only", catalog.len() - agreed);
    line("of your own", with(&|card| card.tier.is_none()));
    let kinds: BTreeSet<&str> =
        catalog.cards().flat_map(Card::auths).map(|(_, kind)| kind).collect();
    for kind in kinds {
        line(&format!("with {kind}"), with(&|card| card.auths().any(|(_, other)| other == kind)));
    }
    out
}

/// Everything that a person needs to configure an account of `app`.
pub fn show(app: &App) -> String {
    let mut out = format!("{} ({})\n{}\n", app.name, app.id, app.description);
    if let Some(caution) = app.confidence.caution() {
        let _ = writeln!(out, "{caution}");
    }
    if let Some(url) = &app.docs_url {
        let _ = writeln!(out, "{url}");
    }
    for (at, auth) in app.auths.iter().enumerate() {
        let default = if at == 0 { ", the default" } else { "" };
        let _ = writeln!(out, "\n[{}] {}{default}", auth.id, auth.kind.as_str());
        if let Some(caution) = auth.confidence.caution() {
            let _ = writeln!(out, "  {caution}");
        }
        show_auth(&mut out, auth);
    }
    out
}

/// The same as [`show`], for scripts.
pub fn show_json(app: &App) -> Value {
    json!({
        "id": app.id,
        "name": app.name,
        "description": app.description,
        "categories": app.categories,
        "docs_url": app.docs_url,
        "tier": app.tier,
        "confidence": app.confidence,
        "file": app.file,
        "auth": app.auths.iter().map(auth_json).collect::<Vec<_>>(),
    })
}

/// What is worth a look in a catalog that loaded: warnings, since mistakes stop it from loading.
pub fn lint(catalog: &Catalog) -> Vec<Mistake> {
    catalog.warnings()
}

/// The app of that id.
///
/// # Errors
/// When there is none; says how to search.
pub fn find<'a>(catalog: &'a Catalog, id: &str) -> anyhow::Result<&'a Arc<App>> {
    catalog.app(id).with_context(|| {
        let shown: String = id.chars().filter(|c| !c.is_control()).take(64).collect();
        format!("no app is called \"{shown}\"; `countersign apps list {shown}` searches")
    })
}

fn chosen<'a>(catalog: &'a Catalog, words: Option<&str>) -> Vec<&'a Card> {
    match words {
        Some(words) => catalog.ranked(words),
        None => catalog.cards().collect(),
    }
}

fn row(card: &Card) -> [String; 4] {
    let auths: Vec<_> = card.auths().map(|(id, _)| id).collect();
    let hosts: Vec<_> = card.hosts().collect();
    let shown = match hosts.as_slice() {
        [first, second, _, ..] => format!("{first}, {second}, … ({})", hosts.len()),
        few => few.join(", "),
    };
    let mark = if card.confidence.caution().is_some() { " *" } else { "" };
    [card.id.to_string(), format!("{}{mark}", card.name), auths.join(", "), shown]
}

/// Columns are as wide as their longest entry; the last one is not padded.
fn table<'a, const N: usize>(rows: impl Iterator<Item = &'a [String; N]> + Clone) -> String {
    let mut widths = [0; N];
    for row in rows.clone() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn show_auth(out: &mut String, auth: &Auth) {
    let list = |out: &mut String, heading: &str, lines: Vec<String>| {
        for (at, line) in lines.into_iter().enumerate() {
            let _ = writeln!(out, "  {:9} {line}", if at == 0 { heading } else { "" });
        }
    };
    list(out, "hosts", auth.hosts.iter().map(ToString::to_string).collect());
    list(out, "base", vec![auth.base_url.source().to_owned()]);
    list(out, "attaches", auth.attach.iter().map(attachment).collect());
    for exception in &auth.exceptions {
        let mut lines = vec![format!("{}:", exception.host)];
        lines.extend(exception.paths.iter().map(|glob| format!("  on {}", glob.as_str())));
        lines.extend(exception.attach.iter().map(|a| format!("  {}", attachment(a))));
        if exception.attach.is_empty() {
            lines.push("  nothing".to_owned());
        }
        list(out, "except", lines);
    }
    list(out, "fields", auth.fields.iter().map(field).collect());
    let scopes =
        auth.oauth2.iter().flat_map(|o| o.default_scopes.iter().chain(&o.suggested_scopes));
    let scopes: Vec<_> = scopes.map(String::as_str).collect();
    if !scopes.is_empty() {
        list(out, "scopes", vec![scopes.join(" ")]);
    }
    list(
        out,
        "test",
        auth.test.iter().map(|t| format!("{} {}", t.method, t.url.source())).collect(),
    );
}

fn field(field: &Field) -> String {
    let mut notes = Vec::new();
    if field.secret {
        notes.push("secret".to_owned());
    }
    if field.optional {
        notes.push("optional".to_owned());
    }
    match &field.origin {
        FieldOrigin::Asked => {}
        FieldOrigin::Request => notes.push("said by each request's host".to_owned()),
        FieldOrigin::Derived { field, .. } => notes.push(format!("found in {field}")),
        _ => notes.push("found when connecting".to_owned()),
    }
    if !field.choices.is_empty() {
        notes.push(format!("one of {}", field.choices.join(", ")));
    }
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
    let help = field.help.as_deref().map(|help| format!(" – {help}")).unwrap_or_default();
    format!("{}: {}{notes}{help}", field.name, field.label)
}

/// As the definition says it, holes and all: there is no value here yet.
fn attachment(attachment: &Attachment) -> String {
    match attachment {
        Attachment::Header { name, value, optional } => {
            format!(
                "header {name}: {}{}",
                value.source(),
                if *optional { " (optional)" } else { "" }
            )
        }
        Attachment::Query { name, value, optional } => {
            format!("query {name}={}{}", value.source(), if *optional { " (optional)" } else { "" })
        }
        Attachment::Cookie { name, value } => format!("cookie {name}={}", value.source()),
        Attachment::Basic { username, password } => {
            format!("basic {}:{}", username.source(), password.source())
        }
        Attachment::Path { segment, under } => {
            format!("path {}{}", under.as_deref().unwrap_or_default(), segment.source())
        }
        Attachment::Body { name, value } => format!("body {name}={}", value.source()),
        Attachment::Static { name, value, when } => {
            let absent = if *when == When::Absent { " (unless sent)" } else { "" };
            format!("header {name}: {}{absent}", value.to_str().unwrap_or_default())
        }
        Attachment::Signature(signature) => match signature {
            Signature::AwsSigV4(_) => "signature: AWS Signature Version 4".to_owned(),
            Signature::OAuth1(oauth1) => {
                format!("signature: OAuth 1.0a, {}", oauth1.method.as_str())
            }
            Signature::Hmac(hmac) => format!("signature: HMAC, {}", hmac.algorithm.as_str()),
            Signature::Digest => "signature: HTTP Digest".to_owned(),
        },
    }
}

fn auth_json(auth: &Auth) -> Value {
    let field = |field: &Field| {
        json!({
            "name": field.name,
            "label": field.label,
            "help": field.help,
            "secret": field.secret,
            "optional": field.optional,
            "pattern": field.pattern.as_ref().map(|pattern| pattern.as_str()),
            "default": field.default,
            "enum": field.choices,
            "asked": field.is_asked(),
        })
    };
    let test = |test: &crate::catalog::TestRequest| json!({ "method": test.method.as_str(), "url": test.url.source() });
    json!({
        "id": auth.id,
        "kind": auth.kind,
        "confidence": auth.confidence,
        "hosts": auth.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "base_url": auth.base_url.source(),
        "attach": auth.attach.iter().map(attachment).collect::<Vec<_>>(),
        "fields": auth.fields.iter().map(field).collect::<Vec<_>>(),
        "test": auth.test.as_ref().map(test),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        Catalog::embedded().expect("the embedded apps load")
    }

    #[test]
    fn the_list_has_a_line_per_app() {
        let catalog = catalog();
        let text = list(&catalog, None);
        assert_eq!(text.lines().count(), 2 + catalog.len());
        assert!(text.starts_with("APP "), "{text}");
        assert_eq!(list_json(&catalog, None).as_array().map(Vec::len), Some(catalog.len()));
    }

    #[test]
    fn an_app_that_one_source_knows_says_so() {
        let catalog = catalog();
        let single = catalog.cards().find(|card| card.confidence == Confidence::Single);
        let single = single.expect("there are many");
        assert!(list(&catalog, Some(single.id.as_str())).contains(" *"));
        let app = catalog.app(single.id.as_str()).expect("it reads");
        assert!(show(app).contains("known from one source only"));
        assert!(!show(catalog.app("slack").expect("slack")).contains("one source"));
    }

    #[test]
    fn the_count_adds_up() {
        let catalog = catalog();
        let text = count(&catalog);
        let number = |what: &str| {
            let line = text.lines().find(|line| line.ends_with(what)).expect(what);
            line.trim().split(' ').next().and_then(|n| n.parse::<usize>().ok()).expect(what)
        };
        assert_eq!(number(" apps"), catalog.len());
        let (agreed, single) = (number("two sources"), number("one source only"));
        assert_eq!(agreed + single, catalog.len());
        assert!(catalog.len() >= 2_400 && agreed >= 1_100, "{text}");
    }

    #[test]
    fn words_narrow_the_list_and_the_best_comes_first() {
        let text = list(&catalog(), Some("google mail"));
        assert!(!text.contains("slack"), "{text}");
        let text = list(&catalog(), Some("slack"));
        assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("slack ")), "{text}");
    }

    #[test]
    fn an_app_is_shown_with_what_an_account_needs() {
        let catalog = catalog();
        let github = catalog.app("github").expect("github");
        let text = show(github);
        for part in
            ["api.github.com", "access_token", "x-access-token", "nothing", "[token] bearer"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(show_json(github)["auth"][1]["fields"][0]["secret"], json!(true));
    }
}

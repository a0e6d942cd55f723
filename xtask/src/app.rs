//! A record as a definition, if one can be made of it that works and passes the lint.

use countersign::catalog::{Catalog, Mistake};
use serde_json::Value;

use crate::facts::{Record, Way, list, text};
use crate::judgement::Judgements;
use crate::purposes::Purposes;
use crate::way;
use crate::words;
use countersign::catalog::write::{Auth, Definition, Pairs};

/// # Errors
/// Why it is left out, in words.
pub fn definition(
    record: &Record,
    judged: &Judgements,
    purposes: &Purposes,
) -> Result<Definition, String> {
    let slug = record.slug();
    if let Some(reason) = judged.text(slug, "leave_out") {
        return Err(reason.to_owned());
    }
    let mut app = head(record, judged);
    let mut reasons = Vec::new();
    for way in record.ways() {
        if is_a_stranger(record, way) && !judged.texts(slug, "keep_ways").contains(&way.id()) {
            continue;
        }
        match one_way(record, way, &mut app, judged) {
            Ok(auth) => push(&mut app.ways, auth, record.tier() > 1),
            Err(reason) => reasons.push(reason),
        }
    }
    if app.ways.is_empty() {
        return Err(reasons
            .first()
            .cloned()
            .unwrap_or_else(|| "nothing is known of it".to_owned()));
    }
    prefer_headers(&mut app);
    lend_tests(&mut app);
    app.single = !record.is_verified();
    mark_single_ways(&mut app, record);
    drop_ways(&mut app, record, judged);
    describe(&mut app, record, purposes);
    Ok(app)
}

/// A way that one source knows, with hosts that a checked record does not have.
fn is_a_stranger(record: &Record, way: Way<'_>) -> bool {
    let own = Way(&record.0).hosts();
    let within = way.hosts().iter().all(|host| own.contains(host)) && !way.hosts().is_empty();
    record.tier() == 1 && way.is_single() && !way.id().is_empty() && !within
}

fn head(record: &Record, judged: &Judgements) -> Definition {
    let slug = record.slug();
    let name = judged
        .text(slug, "name")
        .map_or_else(|| words::name(text(&record.0, "name")), str::to_owned);
    let docs = text(&record.0, "docs_url");
    let docs = judged.text(slug, "docs_url").unwrap_or(docs);
    let docs = docs_page(slug, docs);
    Definition {
        comment: judged.text(slug, "comment").unwrap_or(text(&record.0, "notes")).to_owned(),
        id: slug.to_owned(),
        name,
        description: judged.text(slug, "description").unwrap_or_default().to_owned(),
        docs_url: docs,
        tier: record.tier(),
        shares: judged.texts(slug, "shares_hosts_with").into_iter().map(str::to_owned).collect(),
        ..Definition::default()
    }
}

/// A person's words where there are some, else what the facts say.
fn describe(app: &mut Definition, record: &Record, purposes: &Purposes) {
    let theirs: Vec<&str> = list(&record.0, "categories").filter_map(Value::as_str).collect();
    let (categories, line) = words::purpose(&app.id, &app.name, &theirs, &domain_of(app));
    let own = purposes.of(record.slug());
    let written = own.as_ref().map(|purpose| purpose.line.clone()).filter(|line| !line.is_empty());
    app.categories = own.map_or(categories, |purpose| purpose.categories);
    if app.description.is_empty() {
        app.description = written.unwrap_or(line);
    }
}

/// What another product of the same name wants.
fn drop_ways(app: &mut Definition, record: &Record, judged: &Judgements) {
    let dropped = judged.texts(record.slug(), "drop_ways");
    if app.ways.iter().any(|way| !dropped.contains(&way.id.as_str())) {
        app.ways.retain(|way| !dropped.contains(&way.id.as_str()));
    }
}

/// The name that somebody registered, of the first host.
fn domain_of(app: &Definition) -> String {
    let host = app.ways.first().and_then(|way| way.hosts.first()).map_or("", String::as_str);
    let host = host.split(['/', ':']).next().unwrap_or_default();
    let end = host.rsplit('}').next().unwrap_or_default().trim_start_matches(['.', '-']);
    psl::domain_str(end).unwrap_or(end).to_owned()
}

/// Makes the way, and tries it in an app of its own. What only spoils a test request or a base URL
/// is mended by leaving that out.
fn one_way(
    record: &Record,
    way: Way<'_>,
    app: &mut Definition,
    judged: &Judgements,
) -> Result<Auth, String> {
    let mut auth = way::auth(Way(&record.0), way, record.tier())?;
    if auth.hosts.iter().any(|host| is_lent(host)) {
        return Err("its host is one that a hosting provider lends to a project".to_owned());
    }
    drop_fields(&mut auth, &judged.texts(record.slug(), "drop_fields"));
    words_of(&mut auth, app, judged);
    let dropped = judged.texts(record.slug(), "drop_hosts");
    auth.hosts.retain(|host| !dropped.contains(&host.as_str()));
    let own = judged.texts(record.slug(), "hosts");
    if !own.is_empty() {
        auth.hosts = own.into_iter().map(str::to_owned).collect();
    }
    if let Some(url) = judged.text(record.slug(), "base_url") {
        auth.base_url = url.to_owned();
    }
    judge_test(record, &mut auth, judged);
    judge_scopes(record, &mut auth, judged);
    settle_region(&mut auth);
    for _ in 0..3 {
        let found = tried(app, &auth);
        let about = |part: &str| found.iter().any(|mistake| mistake.key.ends_with(part));
        match () {
            () if found.is_empty() => return Ok(auth),
            () if about(".test.url") => auth.test.clear(),
            () if about(".base_url") => auth.base_url = plain_base(&auth),
            () => {
                return Err(format!("{}: {}", found[0].key, found[0].text));
            }
        }
    }
    Err("no definition of it passes the lint".to_owned())
}

/// A page for everybody, without what tells where the reader came from.
fn docs_page(slug: &str, url: &str) -> Option<String> {
    let (page, query) = url.split_once('?').unwrap_or((url, ""));
    let tracks = query.is_empty() || query.starts_with("utm_") || query.starts_with("source=");
    let page = if tracks { page } else { url };
    // Other platforms' notes about the API, or their own account with it.
    let theirs = page.contains("pipedream") && slug != "pipedream";
    (page.starts_with("https://") && !theirs).then(|| page.to_owned())
}

/// Platforms that give a project a name below their own. Once the project is gone, anybody may
/// have the name, and with it what is sent there.
const LENT: [&str; 9] = [
    ".herokuapp.com",
    ".onrender.com",
    ".ovh.net",
    ".appspot.com",
    ".azurewebsites.net",
    ".vercel.app",
    ".netlify.app",
    ".run.app",
    ".supabase.co",
];

fn is_lent(host: &str) -> bool {
    let host = host.split('/').next().unwrap_or_default();
    let lent = LENT.iter().any(|end| host.ends_with(end)) || host.contains(".execute-api.");
    // A tenant's own name is what a template is for, and a vendor may be the platform itself.
    lent && !host.contains('{') && host != "api.supabase.co"
}

/// How an answer should look, and other choices of the caller, are no part of a credential.
fn drop_fields(auth: &mut Auth, names: &[&str]) {
    let named = |name: &str| names.contains(&name);
    auth.fields.retain(|field| !field[0].1.as_str().is_some_and(named));
    let holes: Vec<String> = names.iter().map(|name| format!("{{{name}}}")).collect();
    auth.attach.retain_mut(|pairs| match &mut pairs[0] {
        // A half of HTTP Basic may stay empty.
        ("basic", halves) => {
            for half in halves.as_object_mut().into_iter().flatten().map(|(_, half)| half) {
                if half.as_str().is_some_and(|text| holes.iter().any(|hole| hole == text)) {
                    *half = "".into();
                }
            }
            true
        }
        _ => !pairs.iter().any(|(_, value)| {
            value.as_str().is_some_and(|text| holes.iter().any(|hole| text.contains(hole)))
        }),
    });
}

/// Labels without the app's own name, and where the secret is found if a person wrote it down.
fn words_of(auth: &mut Auth, app: &Definition, judged: &Judgements) {
    let help = judged.text(&app.id, "help");
    let is = |field: &Pairs, key: &str| field.iter().any(|(known, _)| *known == key);
    for field in &mut auth.fields {
        if let Some((_, label)) = field.iter_mut().find(|(key, _)| *key == "label") {
            *label = words::without_name(label.as_str().unwrap_or_default(), &app.name).into();
        }
        let secret = field.contains(&("secret", true.into()));
        if let Some(help) = help.filter(|_| secret && !is(field, "help") && !is(field, "from")) {
            field.insert(2, ("help", help.into()));
        }
    }
}

/// A region that only the base URL names, beside hosts that are all listed: the first one is usual.
fn settle_region(auth: &mut Auth) {
    let constant = auth.hosts.iter().all(|host| !host.contains('{'));
    let Some(first) = auth.hosts.first().cloned().filter(|_| constant) else { return };
    let first = first.split('/').next().unwrap_or_default().to_owned();
    let settled = |url: &str| -> Option<String> {
        let rest = url.strip_prefix("https://")?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        host.contains('{').then(|| format!("https://{first}{path}"))
    };
    if let Some(url) = settled(&auth.base_url) {
        auth.base_url = url;
    }
    for (key, value) in &mut auth.test {
        if let (&mut "url", Some(url)) = (key, value.as_str().and_then(settled)) {
            *value = url.into();
        }
    }
    let used = |name: &str| {
        let hole = format!("{{{name}}}");
        let texts = auth.attach.iter().chain(&auth.exceptions).flatten().chain(&auth.oauth2);
        auth.base_url.contains(&hole)
            || texts.into_iter().any(|(_, v)| v.to_string().contains(&hole))
    };
    let kept: Vec<_> =
        auth.fields.iter().filter(|f| f[0].1.as_str().is_none_or(used)).cloned().collect();
    if kept.len() < auth.fields.len() && auth.jwt.is_empty() {
        auth.fields = kept;
    }
}

/// The same question may be asked whatever the credential, where the other way reaches it.
fn lend_tests(app: &mut Definition) {
    let Some(test) = app.ways.iter().map(|way| &way.test).find(|test| !test.is_empty()).cloned()
    else {
        return;
    };
    for at in 0..app.ways.len() {
        let lent = Auth { test: test.clone(), ..app.ways[at].clone() };
        if app.ways[at].test.is_empty() && tried(app, &lent).is_empty() {
            app.ways[at] = lent;
        }
    }
}

/// What a person knows better: rights, in parts that a person would choose.
fn judge_scopes(record: &Record, auth: &mut Auth, judged: &Judgements) {
    let suggested = judged.texts(record.slug(), "scopes");
    let profiles = judged.value(record.slug(), "scope_profiles");
    if auth.kind != "oauth2" {
        return;
    }
    for (key, value) in [
        ("suggested_scopes", (!suggested.is_empty()).then(|| suggested.into())),
        ("scope_profiles", profiles),
    ] {
        let Some(value) = value else { continue };
        match auth.oauth2.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => {
                let before = ["pkce", "client_auth", "expires_in", "refresh", "capture"];
                let at = auth.oauth2.iter().position(|(known, _)| before.contains(known));
                auth.oauth2.insert(at.unwrap_or(auth.oauth2.len()), (key, value));
            }
        }
    }
}

fn judge_test(record: &Record, auth: &mut Auth, judged: &Judgements) {
    let own = judged.value(record.slug(), "tests");
    let own = own.as_ref().and_then(|tests| tests.get(&auth.id)?.as_str());
    let Some(url) = own.or_else(|| judged.text(record.slug(), "test_url")) else { return };
    // Where every request costs something or needs an id.
    if url == "none" {
        auth.test.clear();
        return;
    }
    let status = judged.text(record.slug(), "test_expect").unwrap_or("200");
    let expect = match status {
        "found or not" => serde_json::json!({ "status_not": [401, 403] }),
        _ => serde_json::json!({ "status": status.parse::<u16>().unwrap_or(200) }),
    };
    auth.test = vec![("method", "GET".into()), ("url", url.into()), ("expect", expect)];
}

fn plain_base(auth: &Auth) -> String {
    format!("https://{}", auth.hosts.first().map_or("", |host| host.trim_end_matches('/')))
}

/// What the catalog says about an app that has only this way.
fn tried(app: &Definition, auth: &Auth) -> Vec<Mistake> {
    let trial = Definition { ways: vec![auth.clone()], description: "x".to_owned(), ..app.clone() };
    match Catalog::build([(app.file(), trial.toml())]) {
        Ok(catalog) => catalog.warnings(),
        Err(mistakes) => mistakes,
    }
}

/// Two ways that attach the same are one; two with one name are told apart.
fn push(ways: &mut Vec<Auth>, mut auth: Auth, needs_no_twins: bool) {
    let same = |known: &Auth| known.attach == auth.attach && known.kind == auth.kind;
    if ways.iter().any(|known| same(known) && (needs_no_twins || known.hosts == auth.hosts)) {
        return;
    }
    let taken = |id: &str| ways.iter().any(|known| known.id == id);
    if taken(&auth.id) {
        let number = (2..).find(|n| !taken(&format!("{}_{n}", auth.id))).unwrap_or(2);
        auth.id = format!("{}_{number}", auth.id);
    }
    ways.push(auth);
}

/// Logs keep query strings, so where a header does as well there is only the header.
fn prefer_headers(app: &mut Definition) {
    let key = |auth: &Auth, place: &str| auth.attach.iter().any(|pairs| pairs[0].0 == place);
    let by_header = app.ways.iter().any(|auth| key(auth, "header") || key(auth, "basic"));
    let oauth_only =
        app.ways.iter().all(|auth| key(auth, "query") || auth.kind.starts_with("oauth2"));
    if by_header && !oauth_only {
        app.ways.retain(|auth| !key(auth, "query"));
    }
    if by_header && oauth_only && app.ways.len() > 1 {
        let header = app.ways.iter().any(|auth| !key(auth, "query"));
        app.ways.retain(|auth| !header || !key(auth, "query"));
    }
}

fn mark_single_ways(app: &mut Definition, record: &Record) {
    if app.single {
        return;
    }
    for way in record.ways().into_iter().skip(1).filter(|way| way.is_single()) {
        let Ok(made) = way::auth(Way(&record.0), way, record.tier()) else { continue };
        let same = |auth: &&mut Auth| auth.attach == made.attach && auth.kind == made.kind;
        if let Some(auth) = app.ways.iter_mut().skip(1).find(same) {
            auth.single = true;
        }
    }
}

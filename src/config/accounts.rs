//! `[accounts.<name>]`, held against the app that it belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::mistakes::{choices, listed};
use super::shape::{Table, Value};
use super::{Account, Config, Mistake, Place, SecretRef, secrets};
use crate::catalog::{App, Auth, Catalog, Field, FieldOrigin, HostIndex, HostPattern, Origin};
use crate::ids::AccountId;
use crate::inject::{self, Attachment, Properties};
use crate::secret::{Secret, TokenDigest};

/// All accounts by name; `None` for one that is there, but wrong.
pub(super) type Accounts = BTreeMap<String, Option<Read>>;

/// An account with what callers need of it.
pub(super) struct Read {
    pub(super) account: Account,
    pub(super) origins: Vec<Origin>,
    pub(super) open: Vec<HostPattern>,
}

pub(super) fn read(table: &Table<'_>, base: &Path, catalog: &Catalog) -> Accounts {
    let one = |(name, value): (&str, Value<'_>)| {
        let table = value.or_say(value.table());
        let read = table.and_then(|table| account(name, &value, &table, base, catalog));
        (name.to_owned(), read)
    };
    table.entries().into_iter().map(one).collect()
}

fn account(
    name: &str,
    value: &Value<'_>,
    table: &Table<'_>,
    base: &Path,
    catalog: &Catalog,
) -> Option<Read> {
    let id = value.or_say(account_name(name));
    let written = Written::read(table, base);
    let app = written.app(table, catalog);
    let auth = app.and_then(|app| written.auth(table, app));
    table.done();
    let (app, auth) = (app?, auth?);
    let mut account = Account {
        name: id?,
        id: account_id(name),
        app: app.id.clone(),
        auth: auth.id.clone(),
        fields: written.fields(auth),
        secrets: written.secrets(auth),
    };
    account.fill_in(auth);
    account.check_complete(table, auth);
    check_supported(table, auth);
    match account.origins_of(auth) {
        Ok(origins) => Some(Read { account, origins, open: open_hosts(auth) }),
        Err(error) => {
            table.say(error);
            None
        }
    }
}

/// `apn_…` is how ids look, so no nickname may.
fn account_name(name: &str) -> Result<AccountId, String> {
    match name.starts_with("apn_") {
        true => Err("a name may not start with \"apn_\", as ids do".to_owned()),
        false => name.parse().map_err(|error| format!("{error}")),
    }
}

/// The same name gives the same id, on every node and after every restart.
fn account_id(name: &str) -> AccountId {
    let digest = TokenDigest::of(format!("account {name}").as_bytes()).to_hex();
    let id = format!("apn_{}", &digest[..12]);
    id.parse().expect("letters, digits and an underscore are a name")
}

/// The keys as they stand in the file.
struct Written<'t> {
    app: Option<String>,
    auth: Option<String>,
    fields: Vec<(&'t str, Value<'t>)>,
    secrets: Vec<(&'t str, Value<'t>, Option<SecretRef>)>,
}

impl<'t> Written<'t> {
    fn read(table: &Table<'t>, base: &Path) -> Self {
        let secret = |(name, value): (&'t str, Value<'t>)| {
            let read = secrets::reference(&value, base);
            (name, value, read)
        };
        Self {
            app: table.text("app", |text| Ok(text.to_owned())),
            auth: table.text("auth", |text| Ok(text.to_owned())),
            fields: table.table("fields").entries(),
            secrets: table.table("secrets").entries().into_iter().map(secret).collect(),
        }
    }

    fn app<'c>(&self, table: &Table<'_>, catalog: &'c Catalog) -> Option<&'c Arc<App>> {
        let Some(id) = &self.app else {
            if !table.has("app") {
                table.say("`app` is missing");
            }
            return None;
        };
        let found = catalog.app(id);
        if let (None, Some(value)) = (found, table.value("app")) {
            value.say(format!(
                "there is no app \"{}\"; {}",
                id.escape_debug(),
                choices(id, catalog.ids_by_renown().into_iter())
            ));
        }
        found
    }

    fn auth<'c>(&self, table: &Table<'_>, app: &'c App) -> Option<&'c Auth> {
        let Some(id) = &self.auth else { return app.auths.first() };
        let found = app.auth(id);
        if let (None, Some(value)) = (found, table.value("auth")) {
            let ids: Vec<&str> = app.auths.iter().map(|auth| auth.id.as_str()).collect();
            value.say(format!(
                "{} has no way to authenticate called \"{}\"; {}",
                app.id,
                id.escape_debug(),
                choices(id, ids.iter().copied())
            ));
        }
        found
    }

    /// The values that are no secrets, each checked by its field.
    fn fields(&self, auth: &Auth) -> BTreeMap<String, String> {
        let one = |(name, value): &(&str, Value<'_>)| {
            let text = value.or_say(value.scalar())?;
            let field = known(auth, name, value)?;
            if field.is_some_and(|field| field.secret) || is_token(auth, name) {
                value.say("this is a secret: put it under `secrets`, by reference");
            }
            check(field, &text, value);
            Some(((*name).to_owned(), text))
        };
        self.fields.iter().filter_map(one).collect()
    }

    fn secrets(&self, auth: &Auth) -> BTreeMap<String, SecretRef> {
        let one = |(name, value, read): &(&str, Value<'_>, Option<SecretRef>)| {
            let field = known(auth, name, value)?;
            if hosts_need(auth).contains(name) {
                value
                    .say("the host depends on it, so it must be known here: put it under `fields`");
            }
            if let Some(SecretRef { place: Place::Inline(secret), .. }) = read {
                check(field, secret.expose(), value);
            }
            Some(((*name).to_owned(), read.clone()?))
        };
        self.secrets.iter().filter_map(one).collect()
    }
}

/// The field of that name. `Some(None)` for a name that only a template has, such as
/// `oauth_access_token`; `None` for one that means nothing, which is said.
fn known<'a>(auth: &'a Auth, name: &str, value: &Value<'_>) -> Option<Option<&'a Field>> {
    let field = auth.field(name);
    let needed = needed(auth);
    if field.is_some() || needed.contains(name) || optional(auth).contains(name) {
        return Some(field);
    }
    let mut names: BTreeSet<&str> = auth.fields.iter().map(|field| field.name.as_str()).collect();
    names.extend(needed);
    let hint = choices(name, names.iter().copied());
    value.say(format!("\"{}\" authentication has no such field; {hint}", auth.id));
    None
}

/// A name that only attachments have stands for a token.
fn is_token(auth: &Auth, name: &str) -> bool {
    auth.field(name).is_none() && !hosts_need(auth).contains(name)
}

/// The field's own text about it never repeats the value.
fn check(field: Option<&Field>, text: &str, value: &Value<'_>) {
    if let Some(Err(error)) = field.map(|field| field.check(text)) {
        value.say(error.to_string());
    }
}

fn hosts_need(auth: &Auth) -> BTreeSet<&str> {
    closed_hosts(auth).flat_map(|pattern| pattern.host.holes()).collect()
}

/// Everything without which no request can be sent.
fn needed(auth: &Auth) -> BTreeSet<&str> {
    let mut names = hosts_need(auth);
    names.extend(holes(auth, false));
    names
}

fn optional(auth: &Auth) -> BTreeSet<&str> {
    holes(auth, true)
}

/// The names in the attachments that are, or are not, optional.
fn holes(auth: &Auth, optional: bool) -> BTreeSet<&str> {
    let exceptions = auth.exceptions.iter().flat_map(|exception| &exception.attach);
    let all = auth.attach.iter().chain(exceptions);
    let wanted = all.flat_map(Attachment::fields).filter(|(_, may_miss)| *may_miss == optional);
    wanted.map(|(name, _)| base(auth, name)).collect()
}

/// `team.id` is a part of the field `team`.
fn base<'a>(auth: &Auth, name: &'a str) -> &'a str {
    match name.split_once('.') {
        Some((field, _)) if auth.field(field).is_some() => field,
        _ => name,
    }
}

impl Account {
    /// Defaults, and values that are a part of another one.
    fn fill_in(&mut self, auth: &Auth) {
        for field in &auth.fields {
            if self.has(&field.name) {
                continue;
            }
            let derived = match &field.origin {
                FieldOrigin::Derived { field, pattern } => {
                    self.value(field).and_then(|value| pattern.capture(value)).map(str::to_owned)
                }
                _ => None,
            };
            if let Some(value) = derived.or_else(|| field.default.clone()) {
                self.fields.insert(field.name.clone(), value);
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name) || self.secrets.contains_key(name)
    }

    /// A value that is known already.
    fn value(&self, name: &str) -> Option<&str> {
        let inline = |secret: &'_ SecretRef| match &secret.place {
            Place::Inline(_) => true,
            Place::Env(_) | Place::File(_) | Place::Exec { .. } => false,
        };
        let secret = self.secrets.get(name).filter(|secret| inline(secret));
        let exposed = secret.and_then(|secret| match &secret.place {
            Place::Inline(secret) => Some(secret.expose()),
            _ => None,
        });
        self.fields.get(name).map(String::as_str).or(exposed)
    }

    fn check_complete(&self, table: &Table<'_>, auth: &Auth) {
        let (for_hosts, needed) = (hosts_need(auth), needed(auth));
        for name in needed.into_iter().filter(|name| !self.has(name)) {
            let field = auth.field(name);
            let origin = field.map(|field| &field.origin);
            match origin {
                Some(FieldOrigin::Derived { field, .. }) if for_hosts.contains(name) => {
                    table.say(format!(
                        "the host depends on \"{name}\", a part of \"{field}\" that is not known \
                         here: add fields = {{ {name} = \"…\" }}"
                    ))
                }
                // Read when the other value is.
                Some(FieldOrigin::Derived { field, .. }) if self.has(field) => {}
                _ => table.say(missing(name, field)),
            }
        }
    }

    /// The origins that may get the credential.
    fn origins_of(&self, auth: &Auth) -> Result<Vec<Origin>, String> {
        // What is missing has been said.
        let known = |name: &&str| !self.fields.contains_key(*name);
        if hosts_need(auth).iter().any(known) {
            return Ok(Vec::new());
        }
        origins(auth, &self.fields)
    }

    /// The origins that may get this account's credential: its app's hosts with its own values.
    pub fn origins(&self, catalog: &Catalog) -> Vec<Origin> {
        let auth = catalog.app(self.app.as_str()).and_then(|app| app.auth(&self.auth));
        auth.and_then(|auth| self.origins_of(auth).ok()).unwrap_or_default()
    }
}

/// The origins that may get the credential of an account with these fields.
///
/// # Errors
/// When a field is missing or its value is no part of a host.
pub fn origins(auth: &Auth, fields: &BTreeMap<String, String>) -> Result<Vec<Origin>, String> {
    let value_of = |name: &str| fields.get(name).map(String::as_str);
    let render = |pattern: &HostPattern| pattern.render(value_of);
    closed_hosts(auth).map(|pattern| render(pattern).map_err(|error| error.to_string())).collect()
}

fn closed_hosts(auth: &Auth) -> impl Iterator<Item = &HostPattern> {
    auth.hosts.iter().filter(|pattern| !pattern.is_open())
}

/// Those of which no account says a part, but every request.
pub fn open_hosts(auth: &Auth) -> Vec<HostPattern> {
    auth.hosts.iter().filter(|pattern| pattern.is_open()).cloned().collect()
}

/// Those of them that the catalog alone does not know: where a field is the whole host.
pub fn origins_brought(auth: &Auth, fields: &BTreeMap<String, String>) -> Vec<Origin> {
    let value_of = |name: &str| fields.get(name).map(String::as_str);
    let whole = closed_hosts(auth).filter(|pattern| pattern.host.is_whole());
    whole.filter_map(|pattern| pattern.render(value_of).ok()).collect()
}

fn missing(name: &str, field: Option<&Field>) -> String {
    match field {
        Some(field) if !field.secret => {
            let help = field.help.as_deref().map(|help| format!(" ({help})")).unwrap_or_default();
            format!("\"{name}\" is missing{help}: add fields = {{ {name} = \"…\" }}")
        }
        _ => format!(
            "the secret \"{name}\" is missing: add secrets = {{ {name} = {{ env = \"…\" }} }}"
        ),
    }
}

/// What no version of the values could make work.
fn check_supported(table: &Table<'_>, auth: &Auth) {
    let dummy = |name: &str| (name.to_owned(), Secret::from("x".to_owned()));
    let all = auth.attach.iter().flat_map(Attachment::fields);
    let properties: Properties = all.map(|(name, _)| dummy(name)).collect();
    if let Err(error @ inject::Error::Unsupported(_)) = inject::prepare(&auth.attach, &properties) {
        let others = listed([auth.id.as_str()]);
        table.say(format!("{error} (authentication {others})"));
    }
}

impl Config {
    /// Which app owns which host, with the hosts that accounts bring.
    ///
    /// # Errors
    /// When two apps claim the same.
    pub fn host_index(&self) -> Result<HostIndex, Vec<Mistake>> {
        self.host_index_with(Vec::new())
    }

    /// The same, with what accounts of the store bring.
    ///
    /// # Errors
    /// Every host that two apps claim.
    pub fn host_index_with(
        &self,
        stored: Vec<(Origin, Arc<App>)>,
    ) -> Result<HostIndex, Vec<Mistake>> {
        let brought = self.accounts.iter().flat_map(|account| self.brought_by(account));
        self.catalog.index().with_accounts(brought.chain(stored))
    }

    /// Only hosts that are a field as a whole; the index knows the others.
    fn brought_by(&self, account: &Account) -> Vec<(Origin, Arc<App>)> {
        let Some(app) = self.catalog.app(account.app.as_str()) else { return Vec::new() };
        let Some(auth) = app.auth(&account.auth) else { return Vec::new() };
        let origins = origins_brought(auth, &account.fields).into_iter();
        origins.map(|origin| (origin, Arc::clone(app))).collect()
    }
}

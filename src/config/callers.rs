//! `[callers.<name>]` and `[groups.<name>]`: who may use what.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use super::accounts::Accounts;
use super::mistakes::choices;
use super::secrets;
use super::shape::{Table, Value};
use super::values::{method, parsed, pattern};
use super::{Account, Caller, Place, Rate, SecretRef, Token};
use crate::catalog::Catalog;
use crate::ids::{AccountId, AppId, CallerId};
use crate::policy::{Binding, CallerPolicy, Effect, Kept, Mode, Rule};
use crate::secret::TokenDigest;

/// What rules are checked against.
struct World<'w> {
    base: &'w Path,
    accounts: &'w Accounts,
    catalog: &'w Catalog,
}

/// What a caller or a group grants.
struct Grants<'t> {
    bindings: Vec<Binding>,
    rules: Vec<WrittenRule<'t>>,
}

/// A rule, and where it says which app or account it is about.
struct WrittenRule<'t> {
    rule: Rule,
    app: Option<Value<'t>>,
    account: Option<Value<'t>>,
}

pub(super) fn read(
    callers: &Table<'_>,
    groups: &Table<'_>,
    base: &Path,
    accounts: &Accounts,
    catalog: &Catalog,
) -> Vec<Caller> {
    let world = World { base, accounts, catalog };
    let mut groups = world.groups(groups);
    let mut seen = Proofs::default();
    let one = |(name, value): (&str, Value<'_>)| {
        let table = value.or_say(value.table())?;
        let read = world.caller(name, &value, &table, &mut groups, &mut seen);
        table.done();
        read
    };
    let read = callers.entries().into_iter().filter_map(one).collect();
    for group in groups.into_values() {
        group.check();
    }
    read
}

/// A group, and what its callers have beside it.
struct Group<'t> {
    grants: Grants<'t>,
    beside: Vec<Binding>,
}

impl Group<'_> {
    /// A rule of a group is about something if it is for one of its callers.
    fn check(&self) {
        let all: Vec<&Binding> = self.grants.bindings.iter().chain(&self.beside).collect();
        for rule in &self.grants.rules {
            rule.check(&all);
        }
    }
}

impl<'w> World<'w> {
    fn groups<'t>(&self, table: &Table<'t>) -> BTreeMap<&'t str, Group<'t>> {
        let one = |(name, value): (&'t str, Value<'t>)| {
            let table = value.or_say(value.table())?;
            let group = Group { grants: self.grants(&table), beside: Vec::new() };
            table.done();
            Some((name, group))
        };
        table.entries().into_iter().filter_map(one).collect()
    }

    fn caller(
        &self,
        name: &str,
        value: &Value<'_>,
        table: &Table<'_>,
        groups: &mut BTreeMap<&str, Group<'_>>,
        seen: &mut Proofs,
    ) -> Option<Caller> {
        let id: Option<CallerId> = value.or_say(parsed(name));
        let tokens = self.tokens(table);
        let certificate = table.text("certificate", certificate);
        seen.add(table, name, &tokens, certificate.as_deref());
        let (bindings, rules) = self.policy(table, groups);
        let mode = table.text("mode", mode).unwrap_or_default();
        let expires_at = table.value("expires_at").and_then(|value| value.or_say(value.instant()));
        let rate = table.value("rate").and_then(|value| rate(&value));
        let max_concurrent = table.number("max_concurrent", positive).map(NonZeroU32::get);
        let id = id?;
        let policy = CallerPolicy {
            caller: id.clone(),
            mode,
            bindings,
            lapsed: Vec::new(),
            rules: rules.into(),
            kept: Kept::InFile,
        };
        Some(Caller { id, tokens, certificate, expires_at, policy, rate, max_concurrent })
    }

    /// The caller's own grants, then those of its groups; its own binding of an account and its
    /// own default count before a group's.
    fn policy(
        &self,
        table: &Table<'_>,
        groups: &mut BTreeMap<&str, Group<'_>>,
    ) -> (Vec<Binding>, Vec<Rule>) {
        let own = self.grants(table);
        let mut bindings = own.bindings;
        let mut rules: Vec<Rule> = own.rules.iter().map(|written| written.rule.clone()).collect();
        let has_default =
            |app: &AppId, of: &[Binding]| of.iter().any(|b| b.default && b.app == *app);
        let own_bindings = bindings.clone();
        let names = self.group_names(table, groups);
        for name in &names {
            let Some(group) = groups.get(name.as_str()) else { continue };
            for binding in &group.grants.bindings {
                if bindings.iter().all(|other| other.account != binding.account) {
                    let overruled = has_default(&binding.app, &own_bindings);
                    let default = binding.default && !overruled;
                    bindings.push(Binding { default, ..binding.clone() });
                }
            }
            rules.extend(group.grants.rules.iter().map(|written| written.rule.clone()));
        }
        for name in &names {
            if let Some(group) = groups.get_mut(name.as_str()) {
                group.beside.extend(bindings.iter().cloned());
            }
        }
        let all: Vec<&Binding> = bindings.iter().collect();
        own.rules.iter().for_each(|rule| rule.check(&all));
        check_defaults(table, &bindings);
        (bindings, rules)
    }

    fn group_names(&self, table: &Table<'_>, groups: &BTreeMap<&str, Group<'_>>) -> Vec<String> {
        let name = |text: &str| match groups.contains_key(text) {
            true => Ok(text.to_owned()),
            false => Err(format!(
                "there is no group \"{}\"; {}",
                text.escape_debug(),
                choices(text, groups.keys().copied())
            )),
        };
        table.list("groups", name).unwrap_or_default()
    }

    fn grants<'t>(&self, table: &Table<'t>) -> Grants<'t> {
        let plain = table.list("accounts", |name| Ok((name.to_owned(), self.account(name)?)));
        let plain = plain.unwrap_or_default().into_iter().filter_map(|(_, found)| found);
        let mut bindings: Vec<Binding> = plain.map(binding).collect();
        for value in table.value("bindings").iter().flat_map(Value::entries) {
            let Some(binding) = self.binding(&value) else { continue };
            // The long form says more, so it stands for the short one.
            bindings.retain(|other| other.account != binding.account);
            bindings.push(binding);
        }
        let rules = table.value("rules").iter().flat_map(Value::entries).collect::<Vec<_>>();
        Grants { bindings, rules: rules.into_iter().filter_map(|rule| self.rule(&rule)).collect() }
    }

    /// The account of that name with its hosts; `Ok(None)` if it has mistakes of its own.
    fn account(&self, name: &str) -> Result<Option<&'w super::accounts::Read>, String> {
        match self.accounts.get(name) {
            Some(found) => Ok(found.as_ref()),
            None => Err(format!(
                "there is no account \"{}\"; {}",
                name.escape_debug(),
                choices(name, self.accounts.keys().map(String::as_str))
            )),
        }
    }

    fn binding(&self, value: &Value<'_>) -> Option<Binding> {
        let table = value.or_say(value.table())?;
        let account = table.text("account", |name| self.account(name));
        let default = table.flag("default", false);
        let paths = table.list("paths", pattern).unwrap_or_default();
        if !table.has("account") {
            table.say("`account` is missing");
        }
        table.done();
        Some(Binding { default, paths, ..binding(account??) })
    }

    fn rule<'t>(&self, value: &Value<'t>) -> Option<WrittenRule<'t>> {
        let table = value.or_say(value.table())?;
        let rule = Rule {
            name: Arc::from(value.path.as_str()),
            effect: table.text("effect", effect).unwrap_or(Effect::Allow),
            app: table.text("app", |text| self.app(text)),
            account: table.text("account", |text| self.account(text).and_then(|_| parsed(text))),
            host: table.text("host", pattern),
            methods: table.list("methods", method).unwrap_or_default(),
            paths: table.list("paths", pattern).unwrap_or_default(),
        };
        for key in ["methods", "paths"] {
            let empty = |value: &Value<'_>| value.is_empty_list();
            if let Some(value) = table.value(key).filter(empty) {
                value.say("an empty list would mean everything; leave the key out for that");
            }
        }
        table.done();
        let (app, account) = (table.value("app"), table.value("account"));
        // A part that could not be read must not make the rule wider in later checks.
        let app = app.filter(|_| rule.app.is_some());
        let account = account.filter(|_| rule.account.is_some());
        Some(WrittenRule { rule, app, account })
    }

    fn app(&self, text: &str) -> Result<AppId, String> {
        match self.catalog.app(text) {
            Some(app) => Ok(app.id.clone()),
            None => Err(format!(
                "there is no app \"{}\"; {}",
                text.escape_debug(),
                choices(text, self.catalog.ids_by_renown().into_iter())
            )),
        }
    }

    /// `token`, `token_sha256` and `tokens`, all of them.
    fn tokens(&self, table: &Table<'_>) -> Vec<Token> {
        let one = table.value("token").and_then(|value| secrets::reference(&value, self.base));
        let hash = table.text("token_sha256", digest).map(Token::Digest);
        let several = table.value("tokens");
        let more = several.iter().flat_map(Value::entries).collect::<Vec<_>>();
        let more = more.into_iter().filter_map(|value| self.token(&value));
        one.map(Token::Reference).into_iter().chain(hash).chain(more).collect()
    }

    fn token(&self, value: &Value<'_>) -> Option<Token> {
        let table = value.or_say(value.table())?;
        let hash = table.text("sha256", digest).map(Token::Digest);
        if table.has("sha256") {
            table.done();
            return hash;
        }
        let read = secrets::from_table(&table, self.base).map(Token::Reference);
        table.done();
        read
    }
}

impl WrittenRule<'_> {
    /// A rule about what is not bound can never fit; most often a name is wrong.
    fn check(&self, bindings: &[&Binding]) {
        if let (Some(value), Some(app)) = (&self.app, &self.rule.app)
            && bindings.iter().all(|binding| binding.app != *app)
        {
            value.say(format!("no account of {app} is bound here, so this rule does nothing"));
        }
        if let (Some(value), Some(account)) = (&self.account, &self.rule.account)
            && bindings.iter().all(|binding| binding.account != *account)
        {
            value
                .say(format!("account \"{account}\" is not bound here, so this rule does nothing"));
        }
    }
}

fn binding(read: &super::accounts::Read) -> Binding {
    let Account { name, id, app, .. } = &read.account;
    let mut hosts: Vec<_> =
        read.origins.iter().map(|origin| (origin.host.clone(), origin.port)).collect();
    hosts.sort();
    hosts.dedup();
    Binding {
        account: name.clone(),
        id: id.clone(),
        app: app.clone(),
        hosts,
        open: read.open.clone(),
        paths: Vec::new(),
        default: false,
    }
}

fn check_defaults(table: &Table<'_>, bindings: &[Binding]) {
    let mut defaults: BTreeMap<&AppId, &AccountId> = BTreeMap::new();
    for binding in bindings.iter().filter(|binding| binding.default) {
        if let Some(other) = defaults.insert(&binding.app, &binding.account) {
            table.say(format!(
                "\"{other}\" and \"{}\" are both the default for {}",
                binding.account, binding.app
            ));
        }
    }
}

/// Proofs of identity that are taken: no two callers may have the same.
#[derive(Default)]
struct Proofs {
    tokens: Vec<(TokenDigest, String)>,
    certificates: BTreeMap<String, String>,
}

impl Proofs {
    fn add(
        &mut self,
        table: &Table<'_>,
        caller: &str,
        tokens: &[Token],
        certificate: Option<&str>,
    ) {
        for digest in tokens.iter().filter_map(known_digest) {
            match self.tokens.iter().find(|(other, _)| *other == digest) {
                Some((_, owner)) if owner == caller => table.say("the same token is there twice"),
                Some((_, owner)) => table.say(format!("caller \"{owner}\" has the same token")),
                None => self.tokens.push((digest, caller.to_owned())),
            }
        }
        let Some(name) = certificate else { return };
        if let Some(owner) = self.certificates.insert(name.to_owned(), caller.to_owned()) {
            table.say(format!("caller \"{owner}\" has the same certificate name"));
        }
    }
}

/// Of a token that can be known without reading anything.
fn known_digest(token: &Token) -> Option<TokenDigest> {
    match token {
        Token::Digest(digest) => Some(*digest),
        Token::Reference(SecretRef { place: Place::Inline(secret), .. }) => {
            Some(TokenDigest::of(secret.expose().as_bytes()))
        }
        Token::Reference(_) => None,
    }
}

fn rate(value: &Value<'_>) -> Option<Rate> {
    let table = value.or_say(value.table())?;
    let per_second = table.number("per_second", positive);
    let burst = table.number("burst", positive);
    if !table.has("per_second") {
        table.say("`per_second` is missing");
    }
    table.done();
    let per_second = per_second?;
    Some(Rate { per_second, burst: burst.unwrap_or(per_second) })
}

fn positive(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| "must be a whole number from 1 on".to_owned())
}

fn digest(text: &str) -> Result<TokenDigest, String> {
    let digest = TokenDigest::from_hex(text);
    digest.ok_or_else(|| {
        "a digest is 64 hexadecimal digits (`printf %s TOKEN | sha256sum`)".to_owned()
    })
}

fn certificate(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("name the DNS name, URI or e-mail address that the certificate has".to_owned()),
        name => Ok(name.to_owned()),
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "enforce" => Ok(Mode::Enforce),
        "report" => Ok(Mode::Report),
        _ => Err(format!("\"{}\" is neither \"enforce\" nor \"report\"", text.escape_debug())),
    }
}

fn effect(text: &str) -> Result<Effect, String> {
    match text {
        "allow" => Ok(Effect::Allow),
        "deny" => Ok(Effect::Deny),
        _ => Err(format!("\"{}\" is neither \"allow\" nor \"deny\"", text.escape_debug())),
    }
}

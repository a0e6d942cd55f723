//! What a person enters: on the command line, in files, at prompts. A secret never comes by the
//! command line, where every process of the machine and the shell's history would have it.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _, Write as _};

use anyhow::{Context as _, bail};

use crate::catalog::{Auth, Field};
use crate::secret::Secret;

/// `--field name=value`, `--field name=@file`, `--field name=-` for standard input.
#[derive(Clone)]
pub struct Entry {
    name: String,
    value: Source,
}

#[derive(Clone)]
enum Source {
    Here(String),
    File(String),
    Stdin,
}

impl std::str::FromStr for Entry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE or NAME=@FILE")?;
        let value = match value.strip_prefix('@') {
            Some(file) => Source::File(file.to_owned()),
            None if value == "-" => Source::Stdin,
            None => Source::Here(value.to_owned()),
        };
        Ok(Self { name: name.to_owned(), value })
    }
}

/// The values of `auth`'s fields: those given, and prompts for the others if this is a terminal.
/// `known` are values that are there already.
///
/// # Errors
/// When a secret stands on the command line, a file cannot be read, or nobody is there to be asked.
pub fn fields(
    auth: &Auth,
    given: &[Entry],
    known: &BTreeMap<String, Secret>,
) -> anyhow::Result<BTreeMap<String, Secret>> {
    let mut values = known.clone();
    for entry in given {
        let field = auth.fields.iter().find(|field| field.name == entry.name);
        let secret = field.is_none_or(|field| field.secret);
        values.insert(entry.name.clone(), read(entry, secret)?);
    }
    for field in auth.fields.iter().filter(|field| field.is_asked()) {
        let needed = !field.optional && field.default.is_none();
        if values.contains_key(&field.name) || !(needed || std::io::stdin().is_terminal()) {
            continue;
        }
        if let Some(value) = prompt(field)? {
            values.insert(field.name.clone(), value);
        }
    }
    Ok(values)
}

fn read(entry: &Entry, secret: bool) -> anyhow::Result<Secret> {
    let name = &entry.name;
    let text = match &entry.value {
        Source::Here(_) if secret => bail!(
            "--field {name}: a secret on the command line is seen by every process and kept by the \
             shell; use --field {name}=@FILE, --field {name}=- for standard input, or leave it out \
             and be asked"
        ),
        Source::Here(value) => value.clone(),
        Source::File(path) => std::fs::read_to_string(path)
            .with_context(|| format!("--field {name}: {path} could not be read"))?,
        Source::Stdin => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input")?;
            text
        }
    };
    Ok(Secret::from(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn prompt(field: &Field) -> anyhow::Result<Option<Secret>> {
    if !std::io::stdin().is_terminal() {
        bail!(
            "\"{name}\" is needed ({label}): give it with --field {name}={how}",
            name = field.name,
            label = field.label,
            how = if field.secret { "@FILE" } else { "VALUE" },
        );
    }
    let mut terminal = std::io::stderr();
    if let Some(help) = &field.help {
        writeln!(terminal, "  {help}")?;
    }
    loop {
        let value = ask(field, &mut terminal)?;
        if value.is_empty() {
            if field.optional || field.default.is_some() {
                return Ok(field.default.clone().map(Secret::from));
            }
            writeln!(terminal, "  {} is needed", field.label)?;
            continue;
        }
        match field.check(value.expose()) {
            Ok(()) => return Ok(Some(value)),
            Err(error) => writeln!(terminal, "  {error}")?,
        }
    }
}

fn ask(field: &Field, terminal: &mut impl std::io::Write) -> anyhow::Result<Secret> {
    let default = field.default.as_deref().filter(|_| !field.secret);
    let shown = match (default, field.optional) {
        (Some(default), _) => format!(" [{default}]"),
        (None, true) => " (optional)".to_owned(),
        (None, false) => String::new(),
    };
    write!(terminal, "{}{shown}: ", field.label)?;
    terminal.flush()?;
    if field.secret {
        return Ok(Secret::from(rpassword::read_password().context("no terminal to ask at")?));
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(Secret::from(line.trim().to_owned()))
}

/// A secret that is not a field: an OAuth client's.
///
/// # Errors
/// When it cannot be read and nobody can be asked.
pub fn secret(
    what: &str,
    option: &str,
    file: Option<&str>,
    optional: bool,
) -> anyhow::Result<Option<Secret>> {
    if let Some(file) = file {
        let source = if file == "-" { Source::Stdin } else { Source::File(file.to_owned()) };
        return Ok(Some(read(&Entry { name: what.to_owned(), value: source }, true)?));
    }
    if !std::io::stdin().is_terminal() {
        if optional {
            return Ok(None);
        }
        bail!("{what} is needed: {option} FILE, or {option} - for standard input");
    }
    eprint!("{what}{}: ", if optional { " (empty if there is none)" } else { "" });
    let value = Secret::from(rpassword::read_password().context("no terminal to ask at")?);
    Ok(Some(value).filter(|value| !value.is_empty()))
}

/// Yes or no, for what cannot be undone. Without a terminal `--yes` is needed.
///
/// # Errors
/// When nobody can be asked, or the answer is no.
pub fn confirm(what: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        bail!("{what} Say --yes if that is meant.");
    }
    eprint!("{what} Go on? [y/N] ");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    match line.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => bail!("nothing was changed"),
    }
}

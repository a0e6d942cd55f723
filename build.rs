//! Packs `config/apps` for the binary: definitions compressed in blocks, and one line per app with
//! what has to be known before a definition is read, above all the hosts that it claims.
//!
//! Nothing is judged here: a definition that does not read, or a claim that this file and the
//! catalog see differently, is found by the tests over the whole catalog.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use toml::{Table, Value};

/// Uncompressed bytes of a block. Reading one app costs one block; larger ones compress better.
const BLOCK_BYTES: usize = 24 * 1024;

const ITEM: &str = "\u{1f}";
const PART: &str = "\u{1e}";

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    println!("cargo::rerun-if-changed=config/apps");
    println!("cargo::rerun-if-changed=build.rs");
    let mut files = definitions(&root.join("config/apps"));
    files.sort_by(|a, b| a.id.cmp(&b.id));
    let out = PathBuf::from(variable("OUT_DIR"));
    let (index, blocks) = packed(&files);
    std::fs::write(out.join("apps.index"), index).expect("OUT_DIR is writable");
    std::fs::write(out.join("apps.blocks"), blocks).expect("OUT_DIR is writable");
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

struct Definition {
    id: String,
    /// Below `config/apps`.
    file: String,
    text: String,
    table: Table,
}

fn definitions(folder: &Path) -> Vec<Definition> {
    let mut found = Vec::new();
    for shard in entries(folder).filter(|path| path.is_dir()) {
        for path in entries(&shard).filter(|path| path.extension().is_some_and(|e| e == "toml")) {
            let text = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let table: Table =
                text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let file = path.strip_prefix(folder).expect("it is below").display().to_string();
            found.push(Definition { id: text_of(&table, "id").to_owned(), file, text, table });
        }
    }
    found
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("a folder that can be listed").path())
}

/// The index, and all blocks one after the other.
fn packed(files: &[Definition]) -> (String, Vec<u8>) {
    let (mut index, mut blocks, mut block) = (String::new(), Vec::new(), String::new());
    for file in files {
        if block.len() + file.text.len() > BLOCK_BYTES && !block.is_empty() {
            compress(&block, &mut blocks);
            block.clear();
        }
        let place = format!("{}{PART}{}{PART}{}", blocks.len(), block.len(), file.text.len());
        block.push_str(&file.text);
        writeln!(index, "{}\t{place}", line(file)).expect("a String takes everything");
    }
    compress(&block, &mut blocks);
    (index, blocks)
}

fn compress(block: &str, into: &mut Vec<u8>) {
    let mut encoder = DeflateEncoder::new(into, Compression::best());
    encoder.write_all(block.as_bytes()).expect("a Vec takes everything");
    encoder.finish().expect("a Vec takes everything");
}

/// Everything but the place of the text, in the order in which `catalog/embedded.rs` reads it.
fn line(file: &Definition) -> String {
    let table = &file.table;
    let auths: Vec<(&String, &Table)> = auths_in_order(file);
    let mut hosts = Vec::new();
    let mut claims = Vec::new();
    for (_, auth) in &auths {
        for host in texts(auth, "hosts") {
            push_once(&mut hosts, shown(host));
            for claim in claims_of(host, auth) {
                push_once(&mut claims, claim);
            }
        }
    }
    let kinds = auths.iter().map(|(id, auth)| format!("{id}{PART}{}", text_of(auth, "kind")));
    let renamed = |auth: &Table| {
        let names = auth.get("oauth2")?.get("param_rename")?;
        Some(names.get("state")?.as_str()?.to_owned())
    };
    let states: Vec<String> = auths.iter().filter_map(|(_, auth)| renamed(auth)).collect();
    let tier = table.get("tier").map(Value::to_string).unwrap_or_default();
    [
        &file.id,
        &file.file,
        text_of(table, "name"),
        text_of(table, "description"),
        &tier,
        text_of(table, "confidence"),
        &texts(table, "categories").collect::<Vec<_>>().join(ITEM),
        &texts(table, "shares_hosts_with").collect::<Vec<_>>().join(ITEM),
        &kinds.collect::<Vec<_>>().join(ITEM),
        &hosts.join(ITEM),
        &claims.join(ITEM),
        &states.join(ITEM),
    ]
    .map(|field| field.replace(['\t', '\n'], " "))
    .join("\t")
}

/// TOML tables have no order here, and the first auth of the file is the default one.
fn auths_in_order(file: &Definition) -> Vec<(&String, &Table)> {
    let auths = file.table.get("auth").and_then(Value::as_table);
    let tables = auths.into_iter().flatten().filter_map(|(id, auth)| Some((id, auth.as_table()?)));
    let mut found: Vec<_> = tables.collect();
    let at = |id: &str| file.text.find(&format!("[auth.{id}]")).unwrap_or(usize::MAX);
    found.sort_by_key(|(id, _)| at(id));
    found
}

/// `=host`, for one name, or `*suffix`, for the names of a template, then port, prefix and whether
/// clear text is meant. Nothing for a host that is a field as a whole: accounts bring it.
fn claims_of(text: &str, auth: &Table) -> Vec<String> {
    let (clear, rest) = match text.split_once("://") {
        Some(("http", rest)) => (true, rest),
        Some((_, rest)) => (false, rest),
        None => (false, text),
    };
    let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let port = authority.rsplit_once(':').filter(|(_, port)| !port.contains(['}', ']']));
    let (host, port) = port.unwrap_or((authority, if clear { "80" } else { "443" }));
    let prefix = match prefix.trim_end_matches('/') {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    let claim = |what: String| format!("{what}{PART}{port}{PART}{prefix}{PART}{}", u8::from(clear));
    match names_of(&host.to_ascii_lowercase(), host, auth) {
        Names::Known(names) => names.into_iter().map(|name| claim(format!("={name}"))).collect(),
        Names::Below(suffix) => vec![claim(format!("*{suffix}"))],
        Names::Whole => Vec::new(),
    }
}

/// As the catalog shows it: a prefix has both its slashes, and `https://` goes without saying.
fn shown(host: &str) -> String {
    let plain = host.strip_prefix("https://").unwrap_or(host);
    let scheme = if plain.starts_with("http://") { "http://" } else { "" };
    let rest = &plain[scheme.len()..];
    match rest.split_once('/') {
        Some((authority, path)) if !path.trim_end_matches('/').is_empty() => {
            format!("{scheme}{authority}/{}/", path.trim_end_matches('/'))
        }
        Some((authority, _)) => format!("{scheme}{authority}"),
        None => plain.to_owned(),
    }
}

enum Names {
    /// Constant, or with holes that have a closed set of values.
    Known(Vec<String>),
    Below(String),
    Whole,
}

fn names_of(lower: &str, host: &str, auth: &Table) -> Names {
    if !host.contains('{') {
        return Names::Known(vec![lower.trim_end_matches('.').to_owned()]);
    }
    let mut names = vec![String::new()];
    let mut rest = host;
    while !rest.is_empty() {
        let choices = match rest.strip_prefix('{').and_then(|open| open.split_once('}')) {
            Some((hole, after)) => {
                let all = rest == host && after.is_empty();
                rest = after;
                match hole_of(hole, all, auth) {
                    Hole::OneOf(choices) => choices,
                    Hole::Whole => return Names::Whole,
                    Hole::Any => return Names::Below(suffix_of(lower).to_owned()),
                }
            }
            None => {
                let (constant, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
                rest = after;
                vec![constant.to_owned()]
            }
        };
        let longer = |name: &String| {
            choices.iter().map(|c| format!("{name}{c}").to_ascii_lowercase()).collect::<Vec<_>>()
        };
        names = names.iter().flat_map(longer).collect();
    }
    Names::Known(names)
}

enum Hole {
    OneOf(Vec<String>),
    Any,
    Whole,
}

fn hole_of(hole: &str, is_all: bool, auth: &Table) -> Hole {
    let name = hole.strip_suffix(".host").unwrap_or(hole);
    let fields = auth.get("fields").and_then(Value::as_array).into_iter().flatten();
    let field = fields.filter_map(Value::as_table).find(|field| text_of(field, "name") == name);
    let kind = field.map(|field| text_of(field, "kind")).unwrap_or_default();
    let choices: Vec<String> =
        field.into_iter().flat_map(|field| texts(field, "enum")).map(str::to_owned).collect();
    match () {
        () if is_all && (kind == "url" || kind == "host") => Hole::Whole,
        () if !choices.is_empty() => Hole::OneOf(choices),
        () if is_all => Hole::Whole,
        () => Hole::Any,
    }
}

/// The constant end of a template, from a label boundary on.
fn suffix_of(template: &str) -> &str {
    let end = template.rsplit('}').next().unwrap_or_default();
    end.split_once('.').map_or("", |(_, suffix)| suffix)
}

fn text_of<'t>(table: &'t Table, key: &str) -> &'t str {
    table.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn texts<'t>(table: &'t Table, key: &str) -> impl Iterator<Item = &'t str> {
    table.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn push_once(list: &mut Vec<String>, item: String) {
    if !list.contains(&item) {
        list.push(item);
    }
}

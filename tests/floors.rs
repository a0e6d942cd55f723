//! The house rule: a room imports only from the floors below its own.
//!
//! Reads every file under `src/` as Rust, so a name in a comment or a string never counts. Rooms
//! that do not exist yet keep their floor; a room that is not listed fails the test.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::UseTree;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

/// Lowest first. Rooms on one floor do not import from each other, except the values of floor 0
/// and the proxy's parts.
const FLOORS: &[&[&str]] = &[
    &["secret", "random", "markup", "clock", "ids", "host", "stream"],
    &["inject"],
    &["catalog"],
    &["policy"],
    &["config"],
    &["telemetry"],
    &["vault", "upstream"],
    &["oauth", "sources"],
    &["credentials"],
    &["forward"],
    &["proxy", "connect"],
    &["api"],
    &["web"],
    &["serve"],
    &["cli"],
];

/// One mention of another room.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    file: PathBuf,
    line: usize,
    path: String,
    room: String,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.path)
    }
}

#[test]
fn every_room_imports_only_from_the_floors_below() {
    let mut broken = Vec::new();
    for file in source_files() {
        let Some(room) = room_of(&file) else { continue };
        let floor = floor_of(&room).unwrap_or_else(|| panic!("{room} has no floor in FLOORS"));
        for import in imports(&file) {
            let below = floor_of(&import.room).is_some_and(|other| other < floor);
            let ground = floor == 0 && floor_of(&import.room) == Some(0);
            if import.room != room && !below && !ground {
                broken.push(format!("{import}: {room} (floor {floor}) may not import this"));
            }
        }
    }
    assert!(broken.is_empty(), "imports that climb:\n{}", broken.join("\n"));
}

#[test]
fn lib_rs_lists_every_room() {
    let listed = modules_of(&source().join("lib.rs"));
    let on_disk: BTreeSet<String> =
        source_files().iter().filter_map(|file| room_of(file)).collect();
    assert_eq!(listed, on_disk, "lib.rs and the folders under src/ differ");
    for room in &listed {
        assert!(floor_of(room).is_some(), "{room} has no floor in FLOORS");
    }
}

#[test]
fn an_import_is_found_in_whatever_form_it_is_written() {
    let text = r#"
        use crate::{vault::Store, host::Host as H};
        use super::super::forward;
        fn f() -> crate::api::Answer { println!("{}", crate::cli::NAME); "crate::web::no" }
        mod inner { use super::sibling::X; }
    "#;
    let found = imports_in(Path::new("src/oauth/grant.rs"), text);
    // The last one is the file's own room, which it may always name.
    let rooms: Vec<_> = found.iter().map(|import| (import.line, import.room.as_str())).collect();
    assert_eq!(
        rooms,
        [(2, "host"), (2, "vault"), (3, "forward"), (4, "api"), (4, "cli"), (5, "oauth")]
    );
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn source_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![source()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The module path of a file, given from the repository's root: `src/oauth/grant.rs` is `oauth`,
/// `grant`. Empty for `lib.rs` and `main.rs`.
fn module_path(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix("src").expect("a file under src");
    let mut path: Vec<String> =
        inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let file_name = path.pop().expect("a path has a last part");
    let stem = file_name.trim_end_matches(".rs");
    if !["mod", "lib", "main"].contains(&stem) {
        path.push(stem.to_owned());
    }
    path
}

/// `None` for `lib.rs` and `main.rs`, which stand above the house.
fn room_of(file: &Path) -> Option<String> {
    module_path(file.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("a file of ours"))
        .into_iter()
        .next()
}

fn modules_of(file: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(file).expect("lib.rs is readable");
    let parsed = syn::parse_file(&text).expect("lib.rs parses");
    let modules = parsed.items.into_iter().filter_map(|item| match item {
        syn::Item::Mod(module) => Some(module.ident.to_string()),
        _ => None,
    });
    modules.collect()
}

fn imports(file: &Path) -> BTreeSet<Import> {
    let text = std::fs::read_to_string(file).expect("source is readable");
    imports_in(file.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("a file of ours"), &text)
}

fn imports_in(file: &Path, text: &str) -> BTreeSet<Import> {
    let parsed = syn::parse_file(text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut finder =
        Finder { file: file.to_owned(), module: module_path(file), found: BTreeSet::new() };
    finder.visit_file(&parsed);
    finder.found
}

/// Walks a file, knowing the module it is in.
struct Finder {
    file: PathBuf,
    module: Vec<String>,
    found: BTreeSet<Import>,
}

impl Finder {
    /// Notes `segments` if it is a path from the crate's root, or climbs to it by `super`.
    fn note(&mut self, segments: &[String], line: usize) {
        let climbs = segments.iter().take_while(|segment| *segment == "super").count();
        let absolute = match segments.first().map(String::as_str) {
            Some("crate") => segments[1..].to_vec(),
            Some("super") if climbs <= self.module.len() => {
                let base = &self.module[..self.module.len() - climbs];
                [base, &segments[climbs..]].concat()
            }
            _ => return,
        };
        if let Some(room) = absolute.into_iter().next() {
            let path = segments.join("::");
            self.found.insert(Import { file: self.file.clone(), line, path, room });
        }
    }

    fn note_use(&mut self, tree: &UseTree, prefix: &[String]) {
        let with = |name: String| [prefix, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.note_use(&path.tree, &with(path.ident.to_string())),
            UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.note_use(item, prefix));
            }
            UseTree::Name(name) => {
                self.note(&with(name.ident.to_string()), name.ident.span().start().line);
            }
            UseTree::Rename(name) => {
                self.note(&with(name.ident.to_string()), name.ident.span().start().line);
            }
            UseTree::Glob(glob) => self.note(&with("*".into()), glob.span().start().line),
        }
    }

    /// A macro's tokens are no syntax tree: `crate`, `::`, `room` in a row is a path there.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => self.note_tokens(group.stream()),
                TokenTree::Ident(ident) if *ident == "crate" => {
                    if let Some(TokenTree::Ident(room)) = tokens.get(at + 3) {
                        let path = ["crate".to_owned(), room.to_string()];
                        self.note(&path, ident.span().start().line);
                    }
                }
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_use(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&segments, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.note_tokens(invocation.tokens.clone());
        visit::visit_macro(self, invocation);
    }

    /// `pub(in crate::x)` and `pub(super)` name no import.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module.pop();
    }
}

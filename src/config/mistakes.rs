//! Where mistakes are collected: all of them, each with its line and key or its variable.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use crate::catalog::{Mistake, did_you_mean};

/// The mistakes of one configuration. Shared by everything that reads a part of it.
pub(super) struct Mistakes {
    file: String,
    /// The offset at which each line starts.
    lines: Vec<usize>,
    /// Names of the variables whose values stand in for parts of the file.
    variables: Vec<String>,
    found: RefCell<Vec<Mistake>>,
    /// Every key that something asked for, so that a test can hold the documentation against it.
    known: RefCell<BTreeSet<String>>,
}

/// Where a value was written. Values from the environment get places after the end of any file,
/// one for each variable.
pub(super) type Span = Range<usize>;

const ENVIRONMENT: usize = usize::MAX / 2;

impl Mistakes {
    pub(super) fn new(file: String, text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            file,
            lines: std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect(),
            variables: Vec::new(),
            found: RefCell::default(),
            known: RefCell::default(),
        }
    }

    /// The place of a variable's value.
    pub(super) fn variable(&mut self, name: &str) -> Span {
        self.variables.push(name.to_owned());
        let at = ENVIRONMENT + self.variables.len() - 1;
        at..at
    }

    pub(super) fn say(&self, span: &Span, key: &str, text: impl Into<String>) {
        let mistake = match span.start.checked_sub(ENVIRONMENT) {
            Some(at) => {
                let variable = self.variables.get(at).map_or("", String::as_str);
                Mistake::new("environment", None, variable, text)
            }
            None => Mistake::new(&self.file, Some(self.line(span)), key, text),
        };
        // Some keys are read twice.
        let mut found = self.found.borrow_mut();
        if !found.contains(&mistake) {
            found.push(mistake);
        }
    }

    pub(super) fn unknown(&self, span: &Span, key: &str, word: &str, known: &BTreeSet<&str>) {
        let meant = did_you_mean(word, known.iter().copied());
        let hint = match meant {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("known here: {}", listed(known.iter().copied())),
        };
        self.say(span, key, format!("unknown key; {hint}"));
    }

    pub(super) fn extend(&self, more: impl IntoIterator<Item = Mistake>) {
        self.found.borrow_mut().extend(more);
    }

    pub(super) fn know(&self, key: String) {
        self.known.borrow_mut().insert(key);
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> BTreeSet<String> {
        self.known.borrow().clone()
    }

    /// In the order of the file, those of the environment first.
    pub(super) fn into_found(self) -> Vec<Mistake> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|mistake| mistake.line);
        found
    }

    fn line(&self, span: &Span) -> usize {
        self.lines.partition_point(|start| *start <= span.start)
    }
}

pub(super) fn is_from_environment(span: &Span) -> bool {
    span.start >= ENVIRONMENT
}

/// `"a", "b" and "c"`, or what to say when there is none.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// What to say about a name that is not among those that exist.
pub(super) fn choices<'a>(
    word: &str,
    names: impl IntoIterator<Item = &'a str, IntoIter: Clone>,
) -> String {
    let names = names.into_iter();
    match did_you_mean(word, names.clone()) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        // A catalog of thousands helps nobody.
        None if names.clone().count() > 40 => "see `countersign apps list`".to_owned(),
        None => format!("there is {}", listed(names)),
    }
}

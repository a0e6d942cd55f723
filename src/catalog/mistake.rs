//! What is wrong with a definition, and where.

use std::fmt;

/// One thing to mend. Shown as `file:line: key: text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub file: String,
    pub line: Option<usize>,
    pub key: String,
    pub text: String,
    pub severity: Severity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Severity {
    /// Refused.
    #[default]
    Error,
    /// Said, and let through.
    Warning,
}

impl Mistake {
    pub fn new(
        file: impl Into<String>,
        line: Option<usize>,
        key: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        let (file, key, text) = (file.into(), key.into(), text.into());
        Self { file, line, key, text, severity: Severity::Error }
    }

    /// The same, but let through.
    pub fn warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        write!(f, " {}", self.text)
    }
}

/// The name among `known` that `word` was probably meant to be.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close = |name: &&str| distance(word, name) <= 1 + name.len() / 4;
    known.into_iter().filter(close).min_by_key(|name| distance(word, name))
}

/// Levenshtein: how many characters have to be typed, deleted or replaced.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[row.len() - 1]
}

/// Whether `a` and `b` are at most `allowed` slips apart: a letter more, less or other, or two
/// neighbours exchanged.
pub(super) fn slips(a: &str, b: &str, allowed: usize) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > allowed {
        return false;
    }
    let first: Vec<usize> = (0..=b.len()).collect();
    let (mut before, mut last) = (Vec::new(), first);
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                let exchanged: &Vec<usize> = &before;
                least = least.min(exchanged[j - 2] + 1);
            }
            row.push(least);
        }
        if row.iter().all(|distance| *distance > allowed) {
            return false;
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()] <= allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_finds_its_neighbour() {
        let known = ["hosts", "base_url", "attach", "exceptions"];
        for (word, meant) in [
            ("host", Some("hosts")),
            ("baseurl", Some("base_url")),
            ("atach", Some("attach")),
            ("exeptoins", Some("exceptions")),
            ("colour", None),
        ] {
            assert_eq!(did_you_mean(word, known), meant, "{word}");
        }
    }

    #[test]
    fn a_slip_is_a_letter_more_less_or_other_or_two_exchanged() {
        for (a, b, allowed, close) in [
            ("slack", "slack", 0, true),
            ("slak", "slack", 1, true),
            ("gihtub", "github", 1, true),
            ("shoppify", "shopify", 1, true),
            ("striqe", "stripe", 1, true),
            ("srtipz", "stripe", 1, false),
            ("srtipz", "stripe", 2, true),
            ("", "a", 1, true),
            ("zoom", "box", 1, false),
        ] {
            assert_eq!(slips(a, b, allowed), close, "{a} {b}");
        }
    }
}

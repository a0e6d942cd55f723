//! Tables for people, JSON for programs.

use std::io::Write;
use std::time::SystemTime;

use crate::clock::rfc3339;

/// A table with a head, its columns as wide as they need to be.
pub fn table(out: &mut impl Write, head: &[&str], rows: Vec<Vec<String>>) -> std::io::Result<()> {
    let head = head.iter().map(|title| title.to_uppercase()).collect();
    let plain_row = |row: Vec<String>| row.iter().map(|cell| plain(cell)).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> =
        std::iter::once(head).chain(rows.into_iter().map(plain_row)).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell_width = |row: &Vec<String>, at: usize| row.get(at).map_or(0, |c| c.chars().count());
    let width = |at| rows.iter().map(|row| cell_width(row, at)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// What a command lists: a table for people, JSON for programs, a hint where there is nothing.
pub struct List<'a, R, V> {
    pub head: &'a [&'a str],
    /// Told instead of an empty table.
    pub none: &'a str,
    pub row: R,
    pub value: V,
}

impl<R, V> List<'_, R, V> {
    pub fn write<T>(&self, out: &mut impl Write, as_json: bool, of: &[T]) -> anyhow::Result<()>
    where
        R: Fn(&T) -> Vec<String>,
        V: Fn(&T) -> serde_json::Value,
    {
        match of {
            of if as_json => json(out, &of.iter().map(&self.value).collect())?,
            [] => writeln!(out, "{}", self.none)?,
            of => table(out, self.head, of.iter().map(&self.row).collect())?,
        }
        Ok(())
    }
}

pub fn json(out: &mut impl Write, value: &serde_json::Value) -> std::io::Result<()> {
    writeln!(out, "{value:#}")
}

/// What a provider or person wrote, without what a terminal would obey.
pub fn plain(text: &str) -> String {
    crate::telemetry::plain(text).to_string()
}

/// `in 3 h`, `5 min ago`, `never`.
pub fn when(at: Option<SystemTime>, now: SystemTime) -> String {
    let Some(at) = at else { return "-".to_owned() };
    match at.duration_since(now) {
        Ok(left) => format!("in {}", rough(left.as_secs())),
        Err(passed) => format!("{} ago", rough(passed.duration().as_secs())),
    }
}

fn rough(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min", seconds / MINUTE),
        HOUR..DAY => format!("{} h", seconds / HOUR),
        _ => format!("{} d", seconds / DAY),
    }
}

pub fn time(at: Option<SystemTime>) -> serde_json::Value {
    at.map_or(serde_json::Value::Null, |at| rfc3339(at).into())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn times_are_rough_and_say_which_way() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (seconds, expected) in
            [(5, "in 5 s"), (90, "in 1 min"), (7300, "in 2 h"), (200_000, "in 2 d")]
        {
            assert_eq!(when(Some(now + Duration::from_secs(seconds)), now), expected);
        }
        assert_eq!(when(Some(now - Duration::from_secs(61)), now), "1 min ago");
        assert_eq!(when(None, now), "-");
    }

    #[test]
    fn a_table_obeys_nobody() {
        let mut out = Vec::new();
        table(&mut out, &["name"], vec![vec!["a\u{1b}[2Jb\r\n".to_owned()]]).expect("memory");
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with("NAME"), "{text:?}");
        assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
    }
}

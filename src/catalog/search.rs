//! Finding an app by what a person would call it.

use std::cmp::Reverse;
use std::sync::Arc;

use super::App;

/// Apps that have every word somewhere, best first: the id before the name before the rest.
pub fn search<'a>(apps: impl Iterator<Item = &'a Arc<App>>, words: &str) -> Vec<&'a Arc<App>> {
    let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    let mut found: Vec<_> =
        apps.filter_map(|app| Some((Reverse(score(app, &words)?), app))).collect();
    found.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.id.cmp(&y.id)));
    found.into_iter().map(|(_, app)| app).collect()
}

/// The sum over the words, `None` when one of them is nowhere.
fn score(app: &App, words: &[String]) -> Option<u32> {
    let (id, name) = (app.id.as_str(), app.name.to_lowercase());
    let rest = format!("{} {}", app.description, app.categories.join(" ")).to_lowercase();
    let points = |word: &String| {
        let word = word.as_str();
        match () {
            () if id == word || name == word => Some(8),
            () if id.starts_with(word) || name.starts_with(word) => Some(4),
            () if id.contains(word) || name.contains(word) => Some(2),
            () if rest.contains(word) => Some(1),
            () => None,
        }
    };
    words.iter().map(points).sum()
}

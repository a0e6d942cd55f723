//! Finding an app by what a person would call it: its name, its host, what it is for, or any of
//! these with a slip of the finger. Reads no definition.

use std::cmp::Reverse;

use super::entry::Card;
use super::mistake::slips;

/// Apps that have every word somewhere, best first. Words without a match count as mistyped names.
pub fn ranked<'a>(cards: impl Iterator<Item = &'a Card>, query: &str) -> Vec<&'a Card> {
    let query = query.trim().to_lowercase();
    let words: Vec<&str> = query.split_whitespace().take(MAX_WORDS).collect();
    let mut found: Vec<(u32, &Card)> =
        cards.filter_map(|card| Some((score(card, &query, &words)?, card))).collect();
    // Who types a name means it: a slip counts only when nobody is called so.
    let called = |(score, _): &(u32, &Card)| *score >= CALLED * words.len() as u32;
    if !words.is_empty() && found.iter().any(called) {
        found.retain(|(score, _)| *score > SLIP * words.len() as u32);
    }
    let tier = |card: &Card| card.tier.unwrap_or_default();
    // Of those that fit alike the shortest name is meant; without words it is a list to leaf through.
    let length = |card: &Card| if words.is_empty() { 0 } else { card.name.len() };
    found.sort_by_cached_key(|(score, card)| {
        (Reverse(*score), tier(card), length(card), card.name.to_lowercase())
    });
    found.into_iter().map(|(_, card)| card).collect()
}

/// More than anybody types; each costs a pass over all names.
const MAX_WORDS: usize = 8;

const EXACT: u32 = 100;
const WORD: u32 = 60;
const BEGINNING: u32 = 40;
const CALLED: u32 = 30;
const HOST: u32 = 25;
const WITHIN: u32 = 20;
const CATEGORY: u32 = 14;
const DESCRIPTION: u32 = 10;
const SLIP: u32 = 8;

/// The sum over the words, `None` when one of them is nowhere.
fn score(card: &Card, query: &str, words: &[&str]) -> Option<u32> {
    let name = card.name.to_lowercase();
    let id = card.id.as_str();
    let whole = match is_spelled(id, query) || is_spelled(&name, query) {
        true => EXACT,
        false => 0,
    };
    let points = |word: &&str| named(id, &name, word).or_else(|| described(card, word));
    let slip = |word: &&str| mistyped(id, &name, word).then_some(SLIP);
    words
        .iter()
        .map(|word| points(word).or_else(|| slip(word)))
        .sum::<Option<u32>>()
        .map(|sum| sum + whole)
}

/// `google sheets` for `google_sheets`, `open ai` for `openai`, `x` for nothing but X.
fn is_spelled(name: &str, query: &str) -> bool {
    let letters = |text: &str| text.bytes().filter(u8::is_ascii_alphanumeric).collect::<Vec<_>>();
    // Most names are told apart by their first letter, and this runs for each of them.
    let alike = || name.bytes().next() == query.bytes().next() && !letters(query).is_empty();
    name == query || (alike() && letters(name) == letters(query))
}

fn named(id: &str, name: &str, word: &str) -> Option<u32> {
    let words = || words_of(id).chain(words_of(name));
    match () {
        () if id == word || name == word => Some(EXACT),
        () if words().any(|w| w == word) => Some(WORD),
        () if id.starts_with(word) || name.starts_with(word) => Some(BEGINNING),
        () if words().any(|w| w.starts_with(word)) => Some(CALLED),
        () if word.len() > 1 && (id.contains(word) || name.contains(word)) => Some(WITHIN),
        () => None,
    }
}

fn described(card: &Card, word: &str) -> Option<u32> {
    let host = || card.hosts().any(|host| is_host(host, word));
    let category = || card.categories().any(|c| words_of(c).any(|w| w.starts_with(word)));
    let description = || card.description.to_lowercase().contains(word);
    match () {
        () if host() => Some(HOST),
        () if category() => Some(CATEGORY),
        () if word.len() > 2 && description() => Some(DESCRIPTION),
        () => None,
    }
}

/// `slack.com`, `https://slack.com/api/x` and `acme.zendesk.com` find the app that has the host.
fn is_host(pattern: &str, word: &str) -> bool {
    if !word.contains('.') {
        return false;
    }
    let bare = word.split_once("://").map_or(word, |(_, rest)| rest);
    let bare = bare.split(['/', '?', '#', ':']).next().unwrap_or_default();
    let host = pattern.split('/').next().unwrap_or_default();
    let suffix = host.rsplit('}').next().unwrap_or_default().trim_start_matches('.');
    host == bare
        || host.strip_suffix(bare).is_some_and(|before| before.ends_with('.'))
        || (host.contains('}') && suffix.contains('.') && bare.ends_with(suffix))
}

fn mistyped(id: &str, name: &str, word: &str) -> bool {
    let allowed = match word.chars().count() {
        0..=3 => return false,
        4..=7 => 1,
        _ => 2,
    };
    // `mailchmip` for `mailchimp`, `shoppify` for `shopify`, and `goglesheets` for `google_sheets`.
    let close = |candidate: &str| slips(word, candidate, allowed);
    words_of(id).chain(words_of(name)).any(close)
        || close(&id.chars().filter(char::is_ascii_alphanumeric).collect::<String>())
}

fn words_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;

//! The definitions that the binary carries, as `build.rs` packed them.
//!
//! A line per app says what has to be known of every app; the definition itself is read when
//! somebody asks for that app, once. Starting with the whole catalog therefore reads no TOML.

use std::borrow::Cow;
use std::io::Read as _;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use flate2::read::DeflateDecoder;

use super::entry::{Card, Claimed, ITEM, List, PART};
use super::{App, Confidence, parse};

const INDEX: &str = include_str!(concat!(env!("OUT_DIR"), "/apps.index"));
const BLOCKS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/apps.blocks"));

/// One line of the index.
#[derive(Debug, Clone)]
pub struct Packed {
    pub card: Card,
    claims: &'static str,
    place: Place,
}

/// Where a definition's text is.
#[derive(Debug, Clone)]
struct Place {
    block: usize,
    text: Range<usize>,
}

/// All apps, sorted by id.
pub fn apps() -> impl Iterator<Item = Packed> {
    INDEX.lines().filter_map(packed)
}

/// `None` for a line that `build.rs` did not write.
fn packed(line: &'static str) -> Option<Packed> {
    let mut parts = line.split('\t');
    let mut part = || parts.next();
    let (id, file) = (part()?.parse().ok()?, part()?);
    let (name, description) = (part()?, part()?);
    let tier = part()?.parse().ok();
    let confidence = if part()? == "single" { Confidence::Single } else { Confidence::Verified };
    let mut list = || part().map(|text| List(Cow::Borrowed(text)));
    let (categories, shares, auths, hosts) = (list()?, list()?, list()?, list()?);
    let claims = part()?;
    let states = List(Cow::Borrowed(part()?));
    let card = Card {
        id,
        file: Cow::Borrowed(file),
        name: Cow::Borrowed(name),
        description: Cow::Borrowed(description),
        tier,
        confidence,
        categories,
        shares,
        auths,
        hosts,
        states,
    };
    Some(Packed { card, claims, place: place(part()?)? })
}

fn place(text: &str) -> Option<Place> {
    let mut numbers = text.split(PART).map(|number| number.parse::<usize>().ok());
    let (block, start, length) = (numbers.next()??, numbers.next()??, numbers.next()??);
    Some(Place { block, text: start..start + length })
}

impl Packed {
    pub fn claims(&self) -> impl Iterator<Item = Claimed<'static>> + use<> {
        let claims = self.claims.split(ITEM).filter(|claim| !claim.is_empty());
        claims.filter_map(|claim| {
            let mut parts = claim.split(PART);
            let what = parts.next()?;
            let port = parts.next()?.parse().ok()?;
            let prefix = parts.next().filter(|prefix| !prefix.is_empty());
            let clear_text = parts.next() == Some("1");
            Some(Claimed { what, port, prefix, clear_text })
        })
    }

    pub fn text(&self) -> Option<String> {
        let block = block(self.place.block)?;
        let text = block.get(self.place.text.clone())?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// Reads the definition. `None` is a mistake in it, which the tests over all of them exclude.
    pub fn read(&self) -> Option<Arc<App>> {
        let read = parse::app(&self.card.file, &self.text()?);
        read.inspect_err(|found| {
            let first = found.first().map(ToString::to_string).unwrap_or_default();
            tracing::error!(app = %self.card.id, mistake = first, "an embedded app does not read");
        })
        .ok()
        .map(Arc::new)
    }
}

/// The block that was unpacked last stays, for those who go through all apps.
fn block(at: usize) -> Option<Arc<[u8]>> {
    static LAST: Mutex<Option<(usize, Arc<[u8]>)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((held, block)) = &*last
        && *held == at
    {
        return Some(block.clone());
    }
    let mut unpacked = Vec::new();
    DeflateDecoder::new(BLOCKS.get(at..)?).read_to_end(&mut unpacked).ok()?;
    let block: Arc<[u8]> = unpacked.into();
    *last = Some((at, block.clone()));
    Some(block)
}

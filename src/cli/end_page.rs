//! The page at the end of a consent that began in the terminal: a heading and a sentence. The local
//! port answers nothing else, so the page brings its style and script along.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::markup::escape;

/// The page, and the content security policy that it needs.
pub fn render(title: &str, text: &str) -> (String, String) {
    let (title, text) = (shown(title), shown(text));
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
         <style>{STYLE}</style></head><body><main><h1>{title}</h1><p>{text}</p></main>\
         <script>{CLEAN_ADDRESS}</script></body></html>"
    );
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; form-action 'none'; \
         frame-ancestors 'none'; base-uri 'none'",
        hash(STYLE),
        hash(CLEAN_ADDRESS)
    );
    (page, policy)
}

/// How a content security policy names what stands in the page itself.
fn hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}

/// What a provider may have said: without what controls, and not without end.
fn shown(text: &str) -> String {
    let text = text.chars().filter(|c| !c.is_control()).take(2000).collect::<String>();
    escape(&text)
}

/// Takes the code out of the address bar, and so out of the history.
const CLEAN_ADDRESS: &str = "history.replaceState(null,'','/')";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f6f7f9;color:#171a21}\
main{max-width:26rem;margin:14vh auto;padding:0 1.5rem}h1{font-size:1.5rem}\
@media(prefers-color-scheme:dark){body{background:#0f1116;color:#e9ecf2}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_page_is_told_is_text() {
        let hostile = "\"><script>alert(1)</script>'\u{1b}";
        let (page, _) = render(hostile, hostile);
        assert!(!page.contains("<script>alert") && !page.contains('\u{1b}'), "{page}");
    }
}

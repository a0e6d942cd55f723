//! Style sheets and scripts, inside the binary. A file's address holds its digest, so that browsers
//! keep it for ever and never hold an old one.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use rust_embed::RustEmbed;

use crate::forward::Body;

const PREFIX: &str = "/static/";

#[derive(RustEmbed)]
#[folder = "src/web/assets"]
struct Files;

struct Asset {
    address: String,
    media_type: &'static str,
    content: Bytes,
}

static ASSETS: LazyLock<BTreeMap<String, Asset>> = LazyLock::new(|| {
    let assets = Files::iter().filter_map(|name| {
        let file = Files::get(&name)?;
        let (stem, kind) = name.rsplit_once('.')?;
        let media_type = match kind {
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            _ => return None,
        };
        let digest: String =
            file.metadata.sha256_hash()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        let address = format!("{PREFIX}{stem}.{digest}.{kind}");
        let content = Bytes::from(file.data.into_owned());
        Some((name.to_string(), Asset { address, media_type, content }))
    });
    assets.collect()
});

/// The address of a file of `src/web/assets`.
pub fn href(name: &str) -> &'static str {
    ASSETS.get(name).map_or("", |asset| asset.address.as_str())
}

/// The file at a path below `/static/`.
pub fn answer(path: &str) -> Option<Response<Body>> {
    path.strip_prefix(PREFIX)?;
    let asset = ASSETS.values().find(|asset| asset.address == path)?;
    let mut response = Response::new(Body::from(asset.content.clone()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    headers.insert(CACHE_CONTROL, forever);
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_found_at_its_address() {
        assert!(Files::iter().count() > 0);
        for name in Files::iter() {
            let response = answer(href(&name)).expect(&name);
            assert!(
                response.headers()[CACHE_CONTROL].to_str().expect("text").contains("immutable")
            );
        }
        assert!(answer("/static/style.css").is_none(), "an address without its digest");
    }
}

//! An OpenAPI document by its URL: fetched like everything else that leaves this machine, with the
//! guard against private addresses, a limit on its size and on redirects.

use std::sync::Arc;

use bytes::Bytes;
use countersign::catalog::Catalog;
use countersign::config::{Config, Draft};
use countersign::serve::{DocumentError, document};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::server::Origin;

const DOCUMENT: &str = r#"{ "openapi": "3.0.0", "info": { "title": "Acme" } }"#;
const MOST_BYTES: usize = 1024;

fn redirect(to: &str) -> Response<Full<Bytes>> {
    let answer = Response::builder().status(StatusCode::FOUND).header("location", to);
    answer.body(Full::default()).expect("a valid answer")
}

fn answer(head: &Parts, _: &[u8]) -> Response<Full<Bytes>> {
    let plain = |text: &[u8]| Response::new(Full::new(Bytes::copy_from_slice(text)));
    match head.uri.path() {
        "/openapi.json" => plain(DOCUMENT.as_bytes()),
        "/moved" => redirect("/openapi.json"),
        "/elsewhere" => redirect("https://docs.acme.example/openapi.json"),
        "/clear" => redirect("http://api.acme.example/openapi.json"),
        "/inside" => redirect("https://192.168.1.1/openapi.json"),
        "/metadata" => redirect("https://169.254.169.254/latest/meta-data/"),
        "/ring" => redirect("/ring"),
        "/nowhere" => {
            Response::builder().status(302).body(Full::default()).expect("a valid answer")
        }
        "/large" => plain(&vec![b'x'; MOST_BYTES + 1]),
        "/fits" => plain(&vec![b'x'; MOST_BYTES]),
        "/binary" => plain(&[0xff, 0xfe, 0x00]),
        _ => Response::builder().status(404).body(Full::default()).expect("a valid answer"),
    }
}

/// A config that finds the origin under two names, and its folder.
async fn config() -> (Config, tempfile::TempDir) {
    let origin = Origin::start(Arc::new(answer)).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("origin.pem"), &origin.root_pem).expect("it is writable");
    let address = origin.address;
    let text = format!(
        "data_dir = \"{}\"\n[upstream]\nroots = [\"origin.pem\"]\n[upstream.resolve]\n\
         \"api.acme.example:443\" = \"{address}\"\n\"docs.acme.example:443\" = \"{address}\"\n",
        folder.path().display()
    );
    let file = folder.path().join("countersign.toml");
    let catalog = Arc::new(Catalog::build([]).expect("nothing is wrong with nothing"));
    let config = Draft::parse(&text, Some(&file), &[]).finish(catalog);
    (config.unwrap_or_else(|found| panic!("{}", crate::shown(&found))), folder)
}

async fn fetch(path: &str) -> Result<(String, String), DocumentError> {
    let (config, _folder) = config().await;
    let url = if path.starts_with('/') {
        format!("https://api.acme.example{path}")
    } else {
        path.to_owned()
    };
    document(&config, &url, MOST_BYTES).await
}

#[tokio::test]
async fn a_document_is_had_with_the_url_where_it_was_found() {
    for (path, found_at) in [
        ("/openapi.json", "https://api.acme.example/openapi.json"),
        ("/moved", "https://api.acme.example/openapi.json"),
        ("/elsewhere", "https://docs.acme.example/openapi.json"),
    ] {
        let (text, url) = fetch(path).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!((text.as_str(), url.as_str()), (DOCUMENT, found_at), "{path}");
    }
    let (text, _) = fetch("/fits").await.expect("just small enough");
    assert_eq!(text.len(), MOST_BYTES);
}

#[tokio::test]
async fn what_is_no_document_says_why() {
    for (path, reason) in [
        ("/missing", "answered 404"),
        ("/large", "larger than 1024 bytes"),
        ("/binary", "is not UTF-8"),
        ("/ring", "redirects too often, or to nowhere"),
        ("/nowhere", "redirects too often, or to nowhere"),
        ("/clear", "is not an https:// URL"),
        ("http://api.acme.example/openapi.json", "is not an https:// URL"),
        ("file:///etc/passwd", "is not an https:// URL"),
        ("no url at all", "is not an https:// URL"),
    ] {
        let error = fetch(path).await.expect_err(path).to_string();
        assert!(error.contains(reason), "{path}: {error}");
    }
}

/// A public document must not be a way to look at what only this machine reaches.
#[tokio::test]
async fn a_private_address_is_asked_for_nothing_not_even_by_a_redirect() {
    for path in
        ["/inside", "/metadata", "https://127.0.0.1/x", "https://[::1]/x", "https://10.0.0.1/x"]
    {
        let error = fetch(path).await.expect_err(path);
        let DocumentError::Upstream { source, .. } = &error else { panic!("{path}: {error}") };
        assert!(source.to_string().contains("is not dialled"), "{path}: {source}");
    }
}

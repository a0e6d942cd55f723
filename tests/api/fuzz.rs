//! `openapi.json` is true: schemathesis makes requests from it, good and bad, and no answer is a 5xx or
//! one that the document does not know.

use crate::page::add_client;
use crate::schemathesis;
use crate::site::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_is_true_whatever_is_asked() {
    let site = Site::start().await;
    add_client(&site).await;
    site.acme("ann").await;
    let arguments = [
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance",
        "--exclude-path-regex",
        "proxy|^/v1/workspace/",
    ];
    schemathesis::run(&site.url(""), &site.token, "", 30, &arguments).await;
    site.close().await;
}

//! Fetching a document that a person named by URL, through the upstream client: its roots, its
//! parent proxy, and its guard against private addresses hold here too.

use std::time::Duration;

use http::header::{ACCEPT, HOST, HeaderValue, LOCATION, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use url::Url;

use super::settings::upstream_settings;
use crate::config::Config;
use crate::host::{Host, Invalid};
use crate::upstream::{self, Destination, OwnAddresses, RequestBody};

const DEADLINE: Duration = Duration::from_secs(30);
const MOST_REDIRECTS: usize = 3;

/// Why a document was not had.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("\"{0}\" is not an https:// URL")]
    Url(String),
    #[error("the URL's host is not valid")]
    Host(#[from] Invalid),
    #[error(transparent)]
    Setup(#[from] super::Error),
    #[error("{host} could not be asked")]
    Upstream { host: Host, source: upstream::Error },
    #[error("{host} answered {status}")]
    Status { host: Host, status: StatusCode },
    #[error("{0} redirects too often, or to nowhere")]
    Redirects(Host),
    #[error("the document is larger than {0} bytes, or did not arrive")]
    Body(usize),
    #[error("the document is not UTF-8")]
    Encoding,
    #[error("the document did not arrive within {} s", DEADLINE.as_secs())]
    Late,
}

/// The text at `url`, and the URL where it was found in the end.
///
/// # Errors
/// See [`DocumentError`].
pub async fn document(
    config: &Config,
    url: &str,
    most_bytes: usize,
) -> Result<(String, String), DocumentError> {
    let settings = upstream_settings(&config.upstream).await?;
    let client =
        upstream::Client::new(settings, OwnAddresses::default()).map_err(super::Error::from)?;
    let fetched = tokio::time::timeout(DEADLINE, follow(&client, url, most_bytes)).await;
    client.close().await;
    fetched.map_err(|_| DocumentError::Late)?
}

async fn follow(
    client: &upstream::Client,
    url: &str,
    most_bytes: usize,
) -> Result<(String, String), DocumentError> {
    let refused = |url: &str| DocumentError::Url(url.escape_debug().take(200).collect());
    let mut url = Url::parse(url).map_err(|_| refused(url))?;
    for _ in 0..=MOST_REDIRECTS {
        if url.scheme() != "https" {
            return Err(refused(url.as_str()));
        }
        let host: Host = url.host_str().unwrap_or_default().parse()?;
        let response = ask(client, &url, &host).await?;
        let status = response.status();
        if status.is_redirection() {
            let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let to = to.and_then(|to| url.join(to).ok());
            url = to.ok_or(DocumentError::Redirects(host))?;
            continue;
        }
        if !status.is_success() {
            return Err(DocumentError::Status { host, status });
        }
        let body = Limited::new(response.into_body(), most_bytes).collect().await;
        let body = body.map_err(|_| DocumentError::Body(most_bytes))?.to_bytes();
        let text = String::from_utf8(body.to_vec()).map_err(|_| DocumentError::Encoding)?;
        return Ok((text, url.into()));
    }
    Err(DocumentError::Redirects(url.host_str().unwrap_or_default().parse()?))
}

async fn ask(
    client: &upstream::Client,
    url: &Url,
    host: &Host,
) -> Result<http::Response<upstream::ResponseBody>, DocumentError> {
    let port = url.port_or_known_default().unwrap_or(443);
    let to = Destination { host: host.clone(), port, tls: true, http1_only: false };
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let authority = if port == 443 { host.to_string() } else { format!("{host}:{port}") };
    let request = Request::get(target)
        .header(HOST, authority)
        .header(ACCEPT, HeaderValue::from_static("application/json, application/yaml, */*"))
        .header(USER_AGENT, HeaderValue::from_static("countersign"))
        .body(RequestBody::empty())
        .map_err(|_| DocumentError::Url(url.to_string()))?;
    let failed = |source| DocumentError::Upstream { host: host.clone(), source };
    client.send(&to, request).await.map_err(failed)
}

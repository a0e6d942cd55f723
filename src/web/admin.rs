//! Metrics and health, for scrapers and supervisors, on a listener of their own.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::telemetry::{self, Telemetry};

/// Whether requests may be sent here. Set by `serve`, read by `/readyz`.
#[derive(Debug, Default)]
pub struct Readiness {
    ca: AtomicBool,
    config: AtomicBool,
    draining: AtomicBool,
}

impl Readiness {
    /// The CA is loaded, or created.
    pub fn set_ca(&self, loaded: bool) {
        self.ca.store(loaded, Ordering::Relaxed);
    }

    /// A valid configuration is in use. One that is refused later leaves this as it is.
    pub fn set_config(&self, valid: bool) {
        self.config.store(valid, Ordering::Relaxed);
    }

    /// The process is about to end: load balancers should look elsewhere.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The names of the checks that fail. An audit that cannot be written fails only where requests
    /// have to wait for it.
    pub fn failing(&self, telemetry: &Telemetry) -> Vec<&'static str> {
        let audit_is_well = !telemetry.is_strict() || telemetry.audit_is_well();
        [
            ("ca", self.ca.load(Ordering::Relaxed)),
            ("config", self.config.load(Ordering::Relaxed)),
            ("draining", !self.draining.load(Ordering::Relaxed)),
            ("audit", audit_is_well),
        ]
        .into_iter()
        .filter_map(|(name, well)| (!well).then_some(name))
        .collect()
    }
}

/// Serves the admin listener for as long as it is polled: also during a drain, when `/readyz` is
/// what tells load balancers to look elsewhere.
pub async fn serve(socket: TcpListener, telemetry: Arc<Telemetry>, readiness: Arc<Readiness>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = socket.accept().await else {
            tokio::time::sleep(BACK_OFF).await;
            continue;
        };
        let active = telemetry.metrics.connection(telemetry::Listener::Admin);
        let (telemetry, readiness) = (telemetry.clone(), readiness.clone());
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response =
                    answer(request.method(), request.uri().path(), &telemetry, &readiness);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            let served = builder
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(MAX_HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            // What goes wrong here is the scraper's, and it will say so.
            let _ = tokio::time::timeout(CONNECTION_LIFETIME, served).await;
            drop((place, active));
        });
    }
}

const MAX_CONNECTIONS: usize = 128;
const MAX_HEAD_BYTES: usize = 16 * 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// Scrapers come again; one that does not read its answer goes.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(600);
const BACK_OFF: Duration = Duration::from_millis(100);

/// Answers a request to the admin listener. Pure.
pub fn answer(
    method: &Method,
    path: &str,
    telemetry: &Telemetry,
    readiness: &Readiness,
) -> Response<Full<Bytes>> {
    let known = matches!(path, "/metrics" | "/livez" | "/readyz" | "/healthz");
    if known && method != Method::GET && method != Method::HEAD {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match path {
        "/metrics" => respond(StatusCode::OK, telemetry::CONTENT_TYPE, telemetry.metrics.render()),
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" | "/healthz" => health(&readiness.failing(telemetry)),
        _ => text(StatusCode::NOT_FOUND, "try /metrics, /livez, /readyz or /healthz\n"),
    }
}

fn health(failing: &[&str]) -> Response<Full<Bytes>> {
    let (status, word) = match failing {
        [] => (StatusCode::OK, "ready"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let body = serde_json::json!({ "status": word, "failing": failing });
    respond(status, "application/json", format!("{body}\n").into_bytes())
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body.into())
}

fn respond(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::telemetry::{LogSettings, Settings, Sink, Style};
    use http_body_util::BodyExt as _;
    use std::sync::Arc;

    fn telemetry() -> Telemetry {
        let sink = Sink::Memory(Arc::default());
        let (style, filter) = (Style::Json, "info".to_owned());
        let log = LogSettings { style, filter, requests: true, sink };
        let settings = Settings { log, audit: None, clock: Clock::System };
        Telemetry::open(settings).expect("telemetry opens")
    }

    async fn get(path: &str, readiness: &Readiness) -> (u16, String) {
        let response = answer(&Method::GET, path, &telemetry(), readiness);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a full body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    #[tokio::test]
    async fn readiness_names_the_checks_that_fail() {
        let readiness = Readiness::default();
        let starting = r#"{"failing":["ca","config"],"status":"not ready"}"#;
        assert_eq!(get("/readyz", &readiness).await, (503, format!("{starting}\n")));
        readiness.set_ca(true);
        readiness.set_config(true);
        let ready = r#"{"failing":[],"status":"ready"}"#;
        assert_eq!(get("/readyz", &readiness).await, (200, format!("{ready}\n")));
        readiness.drain();
        let (status, body) = get("/healthz", &readiness).await;
        assert!(status == 503 && body.contains(r#"["draining"]"#), "{body}");
        assert_eq!(get("/livez", &readiness).await.0, 200, "it lives while it drains");
    }

    #[tokio::test]
    async fn metrics_are_prometheus_text_and_other_paths_are_not_found() {
        let readiness = Readiness::default();
        let (status, body) = get("/metrics", &readiness).await;
        assert!(status == 200 && body.contains("\ncountersign_build_info{"), "{body}");
        for path in ["/", "/metrics/", "/debug", ""] {
            assert_eq!(get(path, &readiness).await.0, 404, "{path}");
        }
    }

    #[test]
    fn only_reading_is_allowed() {
        let post = answer(&Method::POST, "/metrics", &telemetry(), &Readiness::default());
        assert_eq!(
            (post.status().as_u16(), &post.headers()[ALLOW]),
            (405, &"GET, HEAD".parse().expect("a value"))
        );
    }
}

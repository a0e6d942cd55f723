//! The web listener: the gateway, the API, the CA to download, and a page for whoever comes here
//! first. And the admin listener: metrics and health.

pub mod admin;
pub mod assets;
mod browser;
mod connect;
mod fields;
mod flow;
pub mod html;
mod tls;
mod words;
pub mod workspace;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, HOST};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

pub use connect::Connect;
pub use tls::{Tls, http1_only};
pub use workspace::{Surroundings, Workspace};

use crate::api::Api;
use crate::forward::{Activity, Body, Refusal, Switched, UpgradeSlot, Watched};
use crate::host::{Authority, Host};
use crate::proxy::{self, Doors};
use crate::telemetry;

/// What the web listener knows beside the doors.
pub struct Web {
    pub doors: Arc<Doors>,
    /// Where there is a store.
    pub api: Option<Api>,
    /// Names by which it may be addressed.
    pub hosts: Vec<Host>,
    /// Connecting accounts in the browser, where there is a store.
    pub connect: Option<Connect>,
    /// The pages of members, where there is a store.
    pub workspace: Option<Arc<Workspace>>,
    /// Set: it speaks https itself.
    pub tls: Option<Tls>,
}

impl Web {
    /// Accepts until the drain begins.
    pub async fn run(self: Arc<Self>, socket: TcpListener) {
        let doors = self.doors.clone();
        accept_until(&doors, &socket, |stream, peer| {
            let web = self.clone();
            async move { web.serve(stream, peer).await }
        })
        .await;
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let doors = &self.doors;
        let _active = doors.forwarder.telemetry.metrics.connection(telemetry::Listener::Web);
        let registered = doors.forwarder.registry.register();
        let activity = registered.activity.clone();
        let local = stream.local_addr().ok();
        let stream = Watched::new(stream, activity.clone());
        let Some(tls) = &self.tls else { return self.converse(stream, peer, activity).await };
        activity.becomes_opaque();
        let handshake = Box::pin(tls.accept(stream, local));
        let timed = tokio::time::timeout(doors.limits.handshake_timeout, handshake).await;
        // A handshake that fails is the client's to report.
        if let Ok(Some(stream)) = timed {
            activity.reads_heads();
            Box::pin(self.converse(stream, peer, activity)).await;
        }
    }

    /// HTTP, over whatever is below it.
    async fn converse<S>(&self, stream: S, peer: SocketAddr, activity: Arc<Activity>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let doors = &self.doors;
        let slot = UpgradeSlot::default();
        let on_upgrade = parking_lot::Mutex::new(None);
        let service = service_fn(|mut request: Request<Incoming>| {
            let busy = activity.request_begins();
            if request.headers().contains_key(http::header::UPGRADE) {
                *on_upgrade.lock() = Some(hyper::upgrade::on(&mut request));
            }
            let slot = slot.clone();
            async move {
                let response = self.answer(peer, request, slot).await;
                Ok::<_, Infallible>(response.map(|body| body.busy(busy)))
            }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .header_read_timeout(None)
            .max_buf_size(doors.limits.max_header_bytes.max(8192))
            .max_header_size(doors.limits.max_header_bytes);
        let served = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        tokio::pin!(served);
        let mut draining = false;
        loop {
            tokio::select! {
                _ = served.as_mut() => break,
                () = doors.draining.cancelled(), if !draining => {
                    draining = true;
                    served.as_mut().graceful_shutdown();
                }
                () = activity.killed() => return,
            }
        }
        let switched: Option<Switched> = slot.lock().take();
        let waiting = on_upgrade.lock().take();
        if let (Some(mut switched), Some(waiting)) = (switched, waiting)
            && let Ok(upgraded) = waiting.await
        {
            activity.becomes_opaque();
            if let Some(claim) = switched.claim.take() {
                doors.forwarder.claim(&activity, claim);
            }
            let idle = doors.forwarder.settings.idle_timeout;
            switched.run(TokioIo::new(upgraded), &activity, idle).await;
        }
    }

    async fn answer(
        &self,
        peer: SocketAddr,
        mut request: Request<Incoming>,
        upgrade: UpgradeSlot,
    ) -> Response<Body> {
        if !self.is_addressed_by(&request) {
            let refusal = Refusal::Misdirected {
                expected: "an address or a name in web.hosts".to_owned(),
                found: "another name".to_owned(),
            };
            return refusal.into_response(self.doors.forwarder.next_id());
        }
        if let Some(workspace) = &self.workspace {
            request = match workspace.answer(peer.ip(), request).await {
                Ok(page) => return page,
                Err(request) => request,
            };
        }
        if let Some(connect) = self.connect.as_ref().filter(|_| Connect::owns(request.uri().path()))
        {
            return Box::pin(connect.answer(peer.ip(), request)).await;
        }
        if Api::owns(request.uri().path()) {
            return match &self.api {
                Some(api) => api.answer(peer.ip(), request).await,
                None => not_found(NO_STORE),
            };
        }
        match proxy::answer_gateway(&self.doors, peer, request, upgrade).await {
            Ok(response) => response,
            Err(request) => self.page(request.uri().path(), wants_a_page(&request)),
        }
    }

    fn page(&self, path: &str, for_people: bool) -> Response<Body> {
        match path {
            "/" => proxy::landing_page(),
            "/ca.pem" => proxy::ca_certificate(&self.doors.ca),
            path => assets::answer(path).unwrap_or_else(|| match for_people {
                true => lost(),
                false => not_found(NOTHING),
            }),
        }
    }

    /// A page in a browser may make its own name resolve to this address (DNS rebinding), so a name
    /// must be one that was configured. Addresses cannot be rebound.
    fn is_addressed_by(&self, request: &Request<Incoming>) -> bool {
        let field = request.headers().get(HOST).and_then(|value| value.to_str().ok());
        let Some(Ok(authority)) = field.map(|text| Authority::parse(text, 80)) else {
            return false;
        };
        let host = authority.host;
        host.ip().is_some() || host.as_str() == "localhost" || self.hosts.contains(&host)
    }
}

/// Programs and `curl` are told in plain text what this server is.
fn wants_a_page(request: &Request<Incoming>) -> bool {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    request.method() == Method::GET && accept.is_some_and(|accept| accept.contains("text/html"))
}

/// For a person who took a wrong turn.
fn lost() -> Response<Body> {
    let text = "Nothing is here. The workspace begins at /";
    let message = html::Message { title: "Not found", text, button: None, clean_address: false };
    message.answer(StatusCode::NOT_FOUND, &html::Policy::default())
}

fn not_found(said: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(said.to_owned()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

const NOTHING: &str = "nothing is here; / says what this is, /gateway/<app>/<path> is the gateway, \
     /openapi.json describes the API\n";
const NO_STORE: &str = "the API works on the store, and vault.url is \"off\"\n";

/// Connections of the web and admin listeners at once, each.
const MAX_CONNECTIONS: usize = 1024;

/// Accepts connections until the drain begins, and survives every error of `accept`.
pub async fn accept_until<F, Fut>(doors: &Arc<Doors>, socket: &TcpListener, serve: F)
where
    F: Fn(TcpStream, SocketAddr) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepting = async {
            let place = places.clone().acquire_owned().await.ok()?;
            Some((place, socket.accept().await))
        };
        let accepted = tokio::select! {
            accepted = accepting => accepted,
            () = doors.draining.cancelled() => return,
        };
        let Some((place, accepted)) = accepted else { return };
        match accepted {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                let task = serve(stream, peer);
                doors.tasks.spawn(async move {
                    task.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::error!(%error, "accept failed; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

//! One request from the pool's door to the head of its answer, and what is tried again on the way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::TryFutureExt as _;
use futures_util::future::Either;
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::body::{RequestBody, ResponseBody};
use super::error::{Error, Failure, Phase};
use super::http1::{self, Connection};
use super::io::{Io, Stream};
use super::message::{self, Asked, Spare};
use super::pool::{self, Lease, Origin, STREAMS_PER_CONNECTION, Taken};
use super::{Destination, Inner, http2};

/// An origin that refuses a stream more often than this means it.
const MOST_REFUSALS: u32 = 3;

impl Inner {
    /// Sends once; again only if nothing was sent, if the origin said that it did not look at it, or
    /// if a kept connection died under a request that may be repeated (RFC 9112 §9.3.1).
    ///
    /// On a kept HTTP/1.1 connection, which is nearly always, the request leaves before there is a
    /// future, and the future is small: it is copied with every request.
    pub(super) fn send<'a>(
        &'a self,
        to: &Destination,
        mut request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, Error>> + use<'a> {
        let origin = self.pool.origin(to);
        let lease = match origin.take(false) {
            Taken::Lease(lease) => lease,
            taken => {
                let tries = Tries::default();
                return Either::Right(Box::pin(self.persist(origin, taken, request, tries)));
            }
        };
        self.stats.reused.fetch_add(1, Ordering::Relaxed);
        let asked = Asked::of(&request);
        let spare = Spare::of_harmless(&request, asked);
        message::prepare_http1(&mut request, asked, &origin.host_header);
        let sent = http1::exchange(lease, request, asked, &self.limits, &self.tracker);
        Either::Left(sent.or_else(|failure| Box::pin(self.recover(origin, failure, spare))))
    }

    /// After a first failure, on a connection that was kept.
    async fn recover(
        &self,
        origin: Arc<Origin>,
        failure: Failure,
        spare: Option<Box<Spare>>,
    ) -> Result<Response<ResponseBody>, Error> {
        let mut tries = Tries::default();
        let (request, taken) = self.again(&origin, &mut tries, failure, spare, true)?;
        self.persist(origin, taken, request, tries).await
    }

    /// The request to send again, and what there is to send it on; the error if it may not be.
    fn again(
        &self,
        origin: &Arc<Origin>,
        tries: &mut Tries,
        failure: Failure,
        spare: Option<Box<Spare>>,
        reused: bool,
    ) -> Result<(Request<RequestBody>, Taken), Error> {
        let request = tries.again(failure, spare, reused);
        let request = request.map_err(|failure| failure.into_error(&origin.authority))?;
        self.stats.retried.fetch_add(1, Ordering::Relaxed);
        Ok((request, origin.take(tries.fresh)))
    }

    async fn persist(
        &self,
        origin: Arc<Origin>,
        mut taken: Taken,
        mut request: Request<RequestBody>,
        mut tries: Tries,
    ) -> Result<Response<ResponseBody>, Error> {
        loop {
            let ready = self.ready(&origin, taken, tries.fresh).await?;
            let reused = ready.reused;
            let asked = Asked::of(&request);
            let spare = match &ready.by {
                By::Http1(_) if reused && !tries.fresh => Spare::of_harmless(&request, asked),
                By::Http1(_) => None,
                By::Http2(_) => Spare::of(&request, asked),
            };
            let failure = match self.exchange(ready, request, asked, &origin).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            (request, taken) = self.again(&origin, &mut tries, failure, spare, reused)?;
        }
    }

    async fn exchange(
        &self,
        ready: Ready,
        mut request: Request<RequestBody>,
        asked: Asked,
        origin: &Origin,
    ) -> Result<Response<ResponseBody>, Failure> {
        match ready.by {
            By::Http1(lease) => {
                message::prepare_http1(&mut request, asked, &origin.host_header);
                http1::exchange(lease, request, asked, &self.limits, &self.tracker).await
            }
            By::Http2(stream) => {
                let Origin { scheme, uri_authority, .. } = origin;
                message::prepare_http2(&mut request, asked, scheme, uri_authority);
                http2::exchange(stream, request, &self.limits).await
            }
        }
    }

    /// A connection to send on: a kept one, or a new one as soon as there may be one.
    async fn ready(
        &self,
        origin: &Arc<Origin>,
        mut taken: Taken,
        fresh: bool,
    ) -> Result<Ready, Error> {
        if matches!(taken, Taken::AllBusy) {
            let after = self.limits.connect_timeout;
            let authority = || origin.authority.clone();
            taken = tokio::time::timeout(after, Box::pin(origin.wait(fresh)))
                .await
                .map_err(|_| Error::Busy { authority: authority(), after })?;
        }
        let by = match taken {
            Taken::Stream(stream) => By::Http2(stream),
            Taken::Lease(lease) => By::Http1(lease),
            // Boxed: rare, and long.
            Taken::MayOpen(permit) => return Box::pin(self.open_in_turn(origin, permit)).await,
            // Only a closed semaphore says so after the wait, and none is ever closed.
            Taken::AllBusy => {
                let after = self.limits.connect_timeout;
                return Err(Error::Busy { authority: origin.authority.clone(), after });
            }
        };
        self.stats.reused.fetch_add(1, Ordering::Relaxed);
        Ok(Ready { by, reused: true })
    }

    /// Where the new connection may turn out to be shared, the others wait for it instead of
    /// opening one each.
    async fn open_in_turn(
        &self,
        origin: &Arc<Origin>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Ready, Error> {
        if !origin.may_share() {
            return self.open(origin, permit).await;
        }
        let after = self.limits.connect_timeout;
        let turn = tokio::time::timeout(after, origin.dialling.lock()).await.map_err(|_| {
            let authority = origin.authority.clone();
            Error::Timeout { authority, phase: Phase::Connect, after }
        })?;
        if let Some(stream) = origin.stream(STREAMS_PER_CONNECTION) {
            return Ok(Ready { by: By::Http2(stream), reused: true });
        }
        if !origin.may_share() {
            drop(turn);
        }
        self.open(origin, permit).await
    }

    async fn open(
        &self,
        origin: &Arc<Origin>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Ready, Error> {
        let authority = &origin.authority;
        let tcp = self.dialer.dial(authority, "").await?;
        let (stream, http2) = self.secure(tcp, origin).await?;
        let io = Io::new(stream, self.stats.clone());
        let failed = |source| Error::Reset { authority: authority.clone(), source };
        let by = if http2 {
            let sender = http2::connect(io, permit, &self.tracker).await.map_err(failed)?;
            By::Http2(origin.opened_http2(sender))
        } else {
            let connection = Connection::over(io).await.map_err(failed)?;
            By::Http1(origin.opened_http1(connection, permit))
        };
        Ok(Ready { by, reused: false })
    }

    /// Also says whether the origin chose HTTP/2.
    async fn secure(&self, tcp: TcpStream, origin: &Origin) -> Result<(Stream, bool), Error> {
        let Destination { host, tls, http1_only, .. } = &origin.destination;
        if !tls {
            return Ok((Stream::Plain(tcp), false));
        }
        let after = self.limits.tls_timeout;
        let authority = || origin.authority.clone();
        let handshake = self.tls.connect(tcp, host, *http1_only);
        let tls = tokio::time::timeout(after, handshake)
            .await
            .map_err(|_| Error::Timeout { authority: authority(), phase: Phase::Tls, after })?
            .map_err(|source| Error::Tls { authority: authority(), source })?;
        let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Stream::Tls(Box::new(tls)), http2))
    }
}

/// A connection that a request can be sent on now.
struct Ready {
    by: By,
    /// It served a request before, so it may have died since.
    reused: bool,
}

enum By {
    Http1(Lease),
    Http2(pool::Stream),
}

/// What was tried with a request so far.
#[derive(Default)]
struct Tries {
    /// A kept connection died under it: the next is a new one.
    fresh: bool,
    refusals: u32,
}

impl Tries {
    /// The request to send again after `failure`, or the failure if it may not be sent again.
    fn again(
        &mut self,
        failure: Failure,
        spare: Option<Box<Spare>>,
        reused: bool,
    ) -> Result<Request<RequestBody>, Failure> {
        match (failure, spare) {
            (Failure::Unsent(request, _), _) if reused => Ok(*request),
            (failure, Some(spare))
                if self.refusals < MOST_REFUSALS && failure.is_refused_stream() =>
            {
                self.refusals += 1;
                Ok(spare.request())
            }
            (failure, Some(spare))
                if reused && !self.fresh && spare.harmless && failure.is_loss() =>
            {
                self.fresh = true;
                Ok(spare.request())
            }
            (failure, _) => Err(failure),
        }
    }
}

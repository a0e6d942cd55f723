//! Limits that API clients set for themselves, and name with a request: so that one job of theirs does not
//! use up what another needs. Per process, as all limits here.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use governor::Quota;
use http::{HeaderMap, Response};
use serde_json::json;

use super::Api;
use super::failure::{Failure, ok};
use super::input;
use super::principal::Principal;
use super::scope::Scope;
use crate::forward::Body;
use crate::random;
use crate::secret::TokenDigest;
use crate::vault::OwnLimit;

const HEADER: &str = "x-pd-rate-limit";
const LONGEST_WINDOW: u32 = 24 * 60 * 60;
const MOST_REQUESTS: u32 = 1_000_000;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    window_size_seconds: u32,
    requests_per_window: u32,
}

impl Api {
    pub(super) async fn create_rate_limit(
        &self,
        principal: &Principal,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, Failure> {
        let client = principal.client(Scope::TokensCreate)?;
        let asked: Asked = input::json(headers, &body)?;
        let (window, requests) = (asked.window_size_seconds, asked.requests_per_window);
        if !(1..=LONGEST_WINDOW).contains(&window) || !(1..=MOST_REQUESTS).contains(&requests) {
            return Err(Failure::bad(format!(
                "window_size_seconds is from 1 to {LONGEST_WINDOW}, requests_per_window from 1 to \
                 {MOST_REQUESTS}"
            )));
        }
        let token = random::token("rl_", 16)?;
        let digest = TokenDigest::of(token.expose().as_bytes());
        let limit = OwnLimit { client: client.record.id.clone(), window_seconds: window, requests };
        self.vault().create_rate_limit(digest, &limit).await?;
        Ok(ok(&json!({ "token": token.expose() })))
    }

    /// The limit that a request names, if it names one.
    pub(super) async fn own_limit(
        &self,
        principal: &Principal,
        headers: &HeaderMap,
    ) -> Result<(), Failure> {
        let (Principal::Client(client), Some(named)) = (principal, headers.get(HEADER)) else {
            return Ok(());
        };
        let digest = TokenDigest::of(named.as_bytes());
        let quota = match self.limits.known_quota(digest) {
            Some(known) => known,
            None => {
                let limit = self.vault().rate_limit(digest).await?;
                let limit = limit.filter(|limit| limit.client == client.record.id);
                quota(&limit.ok_or_else(unknown)?).ok_or_else(unknown)?
            }
        };
        self.limits.own(digest, quota)
    }
}

fn unknown() -> Failure {
    Failure::bad("x-pd-rate-limit names no limit of this client: make one with POST rate_limits")
}

fn quota(limit: &OwnLimit) -> Option<Quota> {
    let requests = NonZeroU32::new(limit.requests)?;
    let each = Duration::from_secs(u64::from(limit.window_seconds)) / limit.requests;
    Some(Quota::with_period(each)?.allow_burst(requests))
}

//! The numbers behind `/_sim/stats`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::endpoint::Endpoint;

/// The answer to "what happened so far?".
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counters {
    /// Requests received, by endpoint.
    pub requests: BTreeMap<&'static str, u64>,
    /// Messages that users got.
    pub sends_accepted: u64,
    /// Answers to sends, by errcode; "0" is success. Broken answers (reset, hang, HTTP status) are not here.
    pub sends_by_errcode: BTreeMap<i64, u64>,
    /// Requests for tokens, by app and kind (`stable`, `forced`, `classic`).
    pub token_fetches: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// The most requests that were held at one time.
    pub max_concurrent: usize,
    /// The most requests for one openid at one time, refused ones included.
    pub max_concurrent_per_openid: usize,
    /// Sends refused because another for the same openid was being processed.
    pub concurrent_violations: u64,
    pub faults_struck: u64,
    pub first_request_ms: Option<u64>,
    pub last_request_ms: Option<u64>,
    pub first_send_ms: Option<u64>,
    pub last_send_ms: Option<u64>,
}

impl Counters {
    /// Counts a request on arrival; `held` are in the simulator's hands with it.
    pub fn receive(&mut self, now_ms: u64, endpoint: Endpoint, appid: Option<&str>, held: usize) {
        *self.requests.entry(endpoint.path()).or_default() += 1;
        self.max_concurrent = self.max_concurrent.max(held);
        self.first_request_ms.get_or_insert(now_ms);
        self.last_request_ms = Some(now_ms);
        if endpoint == Endpoint::Send {
            self.max_concurrent_per_openid = self.max_concurrent_per_openid.max(1);
            self.first_send_ms.get_or_insert(now_ms);
            self.last_send_ms = Some(now_ms);
        }
        if let Some(kind) = endpoint.token_kind() {
            let app = self.token_fetches.entry(appid.unwrap_or_default().to_owned()).or_default();
            *app.entry(kind).or_default() += 1;
        }
    }

    /// Counts the errcode that a request is answered with.
    pub fn answer(&mut self, endpoint: Endpoint, errcode: i64) {
        if endpoint == Endpoint::Send {
            *self.sends_by_errcode.entry(errcode).or_default() += 1;
        }
    }

    /// Counts a send refused because another for the same openid was being processed.
    pub fn conflict(&mut self) {
        self.concurrent_violations += 1;
        // Never more: the refused one leaves at once.
        self.max_concurrent_per_openid = 2;
    }
}

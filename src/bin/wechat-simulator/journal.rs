//! What was received and what became of it: counters, the newest requests, and doubled messages.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;

use crate::endpoint::Endpoint;
use crate::faults::Subject;

/// Requests kept in memory; the oldest go first.
const REQUESTS_KEPT: usize = 10_000;

/// Everything the simulator remembers of its traffic.
#[derive(Debug, Default)]
pub struct Journal {
    pub counters: Counters,
    requests: VecDeque<Request>,
    /// The number of the oldest request kept.
    first_kept: u64,
    /// How often each message was delivered, by its hash. 64 bits: a false double is unlikely (one in ten
    /// million) even after five million messages.
    messages: HashMap<u64, u32>,
    doubles: BTreeMap<u64, Double>,
}

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

/// One received request.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    pub number: u64,
    /// Microseconds since the Unix epoch.
    pub received_us: u64,
    pub path: &'static str,
    pub appid: Option<String>,
    pub openid: Option<String>,
    pub template_id: Option<String>,
    pub page: Option<String>,
    /// What was answered; None while it is being processed, and for good where no errcode was answered.
    pub errcode: Option<i64>,
    /// The kind of fault that struck it.
    pub fault: Option<&'static str>,
}

/// A message that a user got more than once.
#[derive(Clone, Debug, Serialize)]
pub struct Double {
    pub appid: String,
    pub openid: String,
    pub template_id: String,
    /// Tells messages apart: a hash of all that the user can see.
    pub message: String,
    pub page: Option<String>,
    pub times: u32,
}

impl Journal {
    /// Notes a request on arrival and returns its number.
    pub fn receive(
        &mut self,
        now_us: u64,
        endpoint: Endpoint,
        subject: &Subject<'_>,
        page: Option<&str>,
        held: usize,
    ) -> u64 {
        self.counters.receive(now_us / 1_000, endpoint, subject.appid, held);
        if self.requests.len() == REQUESTS_KEPT {
            self.requests.pop_front();
            self.first_kept += 1;
        }
        let number = self.first_kept + self.requests.len() as u64;
        self.requests.push_back(Request {
            number,
            received_us: now_us,
            path: endpoint.path(),
            appid: subject.appid.map(str::to_owned),
            openid: subject.openid.map(str::to_owned),
            template_id: subject.template_id.map(str::to_owned),
            page: page.map(str::to_owned),
            errcode: None,
            fault: None,
        });
        number
    }

    /// Marks a request as struck by a fault.
    pub fn strike(&mut self, number: u64, fault: &'static str) {
        self.counters.faults_struck += 1;
        if let Some(request) = self.request_mut(number) {
            request.fault = Some(fault);
        }
    }

    /// Notes the errcode that a request is answered with.
    pub fn answer(&mut self, number: u64, endpoint: Endpoint, errcode: i64) {
        if endpoint == Endpoint::Send {
            *self.counters.sends_by_errcode.entry(errcode).or_default() += 1;
        }
        if let Some(request) = self.request_mut(number) {
            request.errcode = Some(errcode);
        }
    }

    /// Notes a send refused with 43108 by the platform itself (a fault rule's 43108 is not counted here).
    pub fn conflict(&mut self) {
        self.counters.concurrent_violations += 1;
        // Never more: the refused one leaves at once.
        self.counters.max_concurrent_per_openid = 2;
    }

    /// Notes a message that a user got.
    pub fn deliver(&mut self, appid: &str, openid: &str, template_id: &str, page: Option<&str>, data: &str) {
        self.counters.sends_accepted += 1;
        let mut hasher = DefaultHasher::new();
        (appid, openid, template_id, page, data).hash(&mut hasher);
        let message = hasher.finish();
        let times = self.messages.entry(message).or_default();
        *times += 1;
        if *times > 1 {
            let double = Double {
                appid: appid.to_owned(),
                openid: openid.to_owned(),
                template_id: template_id.to_owned(),
                message: format!("{message:016x}"),
                page: page.map(str::to_owned),
                times: *times,
            };
            self.doubles.insert(message, double);
        }
    }

    /// The newest requests that fit, oldest first.
    pub fn newest(&self, limit: usize, fits: impl Fn(&Request) -> bool) -> Vec<&Request> {
        let mut newest: Vec<&Request> =
            self.requests.iter().rev().filter(|it| fits(it)).take(limit).collect();
        newest.reverse();
        newest
    }

    /// All messages that users got more than once.
    pub fn doubles(&self) -> impl Iterator<Item = &Double> {
        self.doubles.values()
    }

    fn request_mut(&mut self, number: u64) -> Option<&mut Request> {
        let at = usize::try_from(number.checked_sub(self.first_kept)?).ok()?;
        self.requests.get_mut(at)
    }
}

impl Counters {
    fn receive(&mut self, now_ms: u64, endpoint: Endpoint, appid: Option<&str>, held: usize) {
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
}

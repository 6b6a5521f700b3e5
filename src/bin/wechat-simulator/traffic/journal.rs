//! What was received and what became of it: the newest requests, the messages that users got, and the counters.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;

use super::counters::Counters;
use super::endpoint::Endpoint;
use super::subject::Subject;

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
        self.counters.answer(endpoint, errcode);
        if let Some(request) = self.request_mut(number) {
            request.errcode = Some(errcode);
        }
    }

    /// Notes a send refused with 43108 by the platform itself (a fault rule's 43108 is not counted here).
    pub fn conflict(&mut self) {
        self.counters.conflict();
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

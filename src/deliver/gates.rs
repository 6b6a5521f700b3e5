//! Which apps may be sent to: an app whose own trouble WeChat reports is paused, and tried again by one probe at a time.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use tokio::sync::watch;
use tokio::time::Instant;

use super::streak::{Streak, Verdict};
use crate::clock;
use crate::domain::answer::{Class, PauseReason, SendAnswer, blocked_ip, classify_send};
use crate::domain::ids::{AppId, Openid};
use crate::metrics::Metrics;

/// Between two probes of a paused app. Shorter burns calls on a fault that only a person mends; longer delays the
/// resumption after the mending.
const PROBE_EVERY: Duration = Duration::from_secs(3);
/// The same where WeChat is away: a probe may take the whole request timeout, and nobody has to mend anything.
const PROBE_AWAY_EVERY: Duration = Duration::from_secs(5);

/// The gates of all apps this process has met.
#[derive(Clone)]
pub(super) struct Gates {
    gates: Arc<Mutex<HashMap<AppId, Arc<Gate>>>>,
    metrics: Arc<Metrics>,
}

/// One app's gate.
pub(super) struct Gate {
    app_id: AppId,
    state: watch::Sender<Option<Pause>>,
    streak: Mutex<Streak>,
    hasher: RandomState,
    metrics: Arc<Metrics>,
}

/// Why, and until when, an app is not sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) reason: PauseReason,
    pub(super) ends: Ends,
}

/// What ends a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// A delivery that gets through; the next may try at this time, by either clock.
    ByProbe { at: Instant, due: Timestamp },
    /// A delivery is trying just now.
    Probing,
    /// The refresher, when it has a token again.
    ByToken,
    /// The day's end or a higher `daily_quota`: whoever keeps count of it says so.
    ByQuota { due: Timestamp },
}

/// What the gate says to a delivery.
pub(super) enum Pass {
    Open,
    /// This delivery, and no other for now, may try whether the app works again.
    Probe(Probe),
    Paused,
}

/// The right to try a paused app once. Dropped without an answer, it lets another try later.
pub(super) struct Probe(Arc<Gate>);

impl Gates {
    /// All open.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { gates: Arc::default(), metrics }
    }

    /// The gate of an app; open where it was never met.
    pub(super) fn of(&self, app_id: &AppId) -> Arc<Gate> {
        // Nothing panics under this lock.
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(app_id) {
            return Arc::clone(gate);
        }
        let metrics = Arc::clone(&self.metrics);
        let gate = Arc::new(Gate {
            app_id: app_id.clone(),
            state: watch::Sender::new(None),
            streak: Mutex::default(),
            hasher: RandomState::new(),
            metrics,
        });
        gates.insert(app_id.clone(), Arc::clone(&gate));
        gate
    }
}

impl Gate {
    /// Follows the gate's state: `None` is open.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Pause>> {
        self.state.subscribe()
    }

    /// May incomings of this app be worked on, or do they wait in its lane?
    pub(super) fn is_shut(&self) -> bool {
        self.state.borrow().is_some()
    }

    /// When the app will be tried next, as far as that is known, if it is paused.
    pub(super) fn paused_until(&self) -> Option<Timestamp> {
        match self.state.borrow().as_ref()?.ends {
            Ends::ByProbe { due, .. } | Ends::ByQuota { due } => Some(due),
            Ends::Probing | Ends::ByToken => Some(clock::now()),
        }
    }

    /// Asks for one delivery.
    pub(super) fn pass(self: &Arc<Self>) -> Pass {
        let mut pass = Pass::Paused;
        self.state.send_if_modified(|state| match state {
            None => {
                pass = Pass::Open;
                false
            }
            Some(Pause { ends: ends @ Ends::ByProbe { .. }, .. }) if ends.is_due() => {
                *ends = Ends::Probing;
                pass = Pass::Probe(Probe(Arc::clone(self)));
                true
            }
            Some(_) => false,
        });
        pass
    }

    /// Takes note of WeChat's answer to a send. True where trouble with this delivery is to be blamed on the app.
    pub(super) fn learn(&self, openid: &Openid, answer: &SendAnswer) -> bool {
        let class = classify_send(answer);
        if matches!(class, Class::Transient | Class::Unlisted | Class::Unknown) {
            return self.learn_of_trouble(openid, answer);
        }
        self.streak().good();
        match class.pause_reason() {
            Some(reason) => {
                self.pause(Pause { reason, ends: Ends::by_probe(end_of(class, clock::now())) }, answer);
            }
            // A rejected token says nothing about the rest.
            None if class == Class::Token => {}
            // Answers to what was under way change nothing about our own count.
            None if self.is_kept_by_quota() => {}
            None => self.open(),
        }
        false
    }

    fn learn_of_trouble(&self, openid: &Openid, answer: &SendAnswer) -> bool {
        let user = self.hasher.hash_one(openid);
        let verdict = self.streak().trouble(user, Instant::now());
        if verdict == Verdict::Away && !self.is_shut() {
            let at = clock::now().saturating_add(PROBE_AWAY_EVERY).ok();
            self.pause(Pause { reason: PauseReason::Away, ends: Ends::by_probe(at) }, answer);
        }
        verdict != Verdict::Fine
    }

    fn streak(&self) -> MutexGuard<'_, Streak> {
        // Nothing panics under this lock.
        self.streak.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The refresher gets no token: nothing can be sent until it does.
    pub(super) fn token_gone(&self, reason: PauseReason, answer: &SendAnswer) {
        self.pause(Pause { reason, ends: Ends::ByToken }, answer);
    }

    /// The refresher has a token.
    pub(super) fn token_back(&self) {
        if self.state.borrow().is_some_and(|pause| pause.ends == Ends::ByToken) {
            self.open();
        }
    }

    /// The app's own `daily_quota` is used up.
    pub(super) fn quota_used_up(&self, due: Timestamp) {
        let ours = SendAnswer::Read {
            errcode: 0,
            errmsg: "the app's daily_quota is used up".to_owned(),
            rid: None,
            msgid: None,
        };
        self.pause(Pause { reason: PauseReason::Quota, ends: Ends::ByQuota { due } }, &ours);
    }

    /// There is something left of it again.
    pub(super) fn quota_back(&self) {
        if self.is_kept_by_quota() {
            self.open();
        }
    }

    fn is_kept_by_quota(&self) -> bool {
        self.state.borrow().is_some_and(|pause| matches!(pause.ends, Ends::ByQuota { .. }))
    }

    fn pause(&self, pause: Pause, answer: &SendAnswer) {
        let before = self.state.send_replace(Some(pause));
        if before.is_some_and(|before| before.reason == pause.reason) {
            return;
        }
        self.metrics.app_paused(&self.app_id, pause.reason.as_str());
        let (errcode, errmsg) =
            (answer.errcode().unwrap_or_default(), answer.facts().errmsg.unwrap_or_default());
        let ip = blocked_ip(&errmsg).unwrap_or_default();
        tracing::error!(app_id = %self.app_id, reason = %pause.reason, errcode, errmsg, ip,
            "app paused; its messages wait uncharged and go on by themselves once this is mended");
    }

    /// Opens the gate, whatever shut it.
    pub(super) fn open(&self) {
        // Most answers find the gate open: look before writing, which would wake every follower.
        if !self.is_shut() {
            return;
        }
        if let Some(pause) = self.state.send_replace(None) {
            self.metrics.app_resumed(&self.app_id);
            tracing::info!(app_id = %self.app_id, reason = %pause.reason, "app resumed");
        }
    }
}

impl Ends {
    /// At that time, or else after the usual pause.
    fn by_probe(due: Option<Timestamp>) -> Self {
        let now = clock::now();
        let wait = due.map_or(PROBE_EVERY, |due| due.duration_since(now).unsigned_abs());
        let due = due.unwrap_or_else(|| now.saturating_add(wait).unwrap_or(Timestamp::MAX));
        Self::ByProbe { at: Instant::now() + wait, due }
    }

    fn is_due(self) -> bool {
        matches!(self, Self::ByProbe { at, .. } if at <= Instant::now())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.state.send_if_modified(|state| match state {
            Some(Pause { ends: ends @ Ends::Probing, .. }) => {
                *ends = Ends::by_probe(None);
                true
            }
            _ => false,
        });
    }
}

/// When a quota's pause ends: WeChat's days and minutes begin by Beijing's clock (facts: wechat-api 1.3, 7).
fn end_of(class: Class, now: Timestamp) -> Option<Timestamp> {
    let local = now.to_zoned(TimeZone::get("Asia/Shanghai").ok()?);
    let end = match class {
        Class::Quota => local.tomorrow().ok()?.start_of_day().ok()?,
        Class::Throttled => {
            local.with().second(0).subsec_nanosecond(0).build().ok()?.checked_add(1.minute()).ok()?
        }
        _ => return None,
    };
    Some(end.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Arc<Gate> {
        Gates::new(Arc::new(Metrics::new())).of(&"wx1".parse().unwrap())
    }

    fn anna() -> Openid {
        "o-anna".parse().unwrap()
    }

    fn says(errcode: i64) -> SendAnswer {
        SendAnswer::Read { errcode, errmsg: String::new(), rid: None, msgid: None }
    }

    #[test]
    fn quotas_end_by_beijings_clock() {
        let now: Timestamp = "2026-11-22T15:59:30Z".parse().unwrap();
        let midnight = "2026-11-22T16:00:00Z".parse().unwrap();
        assert_eq!(end_of(Class::Quota, now), Some(midnight));
        assert_eq!(end_of(Class::Throttled, now), Some(midnight));
        assert_eq!(end_of(Class::Conflict, now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_app_is_tried_by_one_probe_at_a_time() {
        let gate = gate();
        gate.learn(&anna(), &says(48001));
        assert!(matches!(gate.pass(), Pass::Paused));
        tokio::time::advance(PROBE_EVERY).await;
        let Pass::Probe(probe) = gate.pass() else { panic!("no probe") };
        assert!(matches!(gate.pass(), Pass::Paused), "two probes at once");
        drop(probe);
        assert!(matches!(gate.pass(), Pass::Paused), "a probe without an answer tells nothing");
        tokio::time::advance(PROBE_EVERY).await;
        let Pass::Probe(_probe) = gate.pass() else { panic!("no second probe") };
        gate.learn(&anna(), &says(0));
        assert!(matches!(gate.pass(), Pass::Open));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_for_want_of_a_token_ends_with_a_token_only() {
        let gate = gate();
        gate.token_gone(PauseReason::SecretWrong, &says(40125));
        tokio::time::advance(PROBE_EVERY * 10).await;
        assert!(matches!(gate.pass(), Pass::Paused));
        gate.token_back();
        assert!(matches!(gate.pass(), Pass::Open));
    }
}

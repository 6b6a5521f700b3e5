//! Which apps may be sent to: an app whose own trouble WeChat reports is paused, and tried again by one probe at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use tokio::time::Instant;

use crate::clock;
use crate::domain::answer::{Class, PauseReason, SendAnswer, blocked_ip, classify_send};
use crate::domain::ids::AppId;
use crate::metrics::Metrics;

/// Between two probes of a paused app. Shorter burns calls on a fault that only a person mends; longer delays the
/// resumption after the mending.
const PROBE_EVERY: Duration = Duration::from_secs(3);
/// A probe that has not reported back by then will not; the next delivery may try.
const PROBE_LOST_AFTER: Duration = Duration::from_secs(60);

/// The pauses of this process.
#[derive(Clone)]
pub struct Gates {
    paused: Arc<Mutex<HashMap<AppId, Pause>>>,
    metrics: Arc<Metrics>,
}

struct Pause {
    reason: PauseReason,
    /// When the next probe may go.
    probe_at: Instant,
}

/// What the gate says to a delivery.
pub(super) enum Pass {
    Open,
    /// This delivery, and no other for now, may try whether the app works again.
    Probe(Probe),
    Paused {
        wait: Duration,
    },
}

/// The right to try a paused app once.
pub(super) struct Probe;

impl Gates {
    /// All open.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { paused: Arc::default(), metrics }
    }

    /// Asks for one delivery.
    pub(super) fn pass(&self, app_id: &AppId) -> Pass {
        let mut paused = self.lock();
        let Some(pause) = paused.get_mut(app_id) else { return Pass::Open };
        let now = Instant::now();
        if now < pause.probe_at {
            return Pass::Paused { wait: pause.probe_at - now };
        }
        pause.probe_at = now + PROBE_LOST_AFTER;
        Pass::Probe(Probe)
    }

    /// Takes note of WeChat's answer. Where it speaks of the app's trouble: the time before which nothing will work, if
    /// that is known.
    pub(super) fn learn(
        &self,
        app_id: &AppId,
        answer: &SendAnswer,
        probe: Option<Probe>,
    ) -> Option<Timestamp> {
        let class = classify_send(answer);
        match class.pause_reason() {
            Some(reason) => {
                let until = until(class, clock::now());
                self.pause(app_id, reason, answer, until);
                until
            }
            // Any answer about the message itself shows that the app works; no answer shows nothing.
            None if matches!(class, Class::Transient | Class::Unlisted | Class::Unknown | Class::Token) => {
                if probe.is_some() {
                    self.probe_again(app_id);
                }
                None
            }
            None => {
                self.resume(app_id);
                None
            }
        }
    }

    fn pause(&self, app_id: &AppId, reason: PauseReason, answer: &SendAnswer, until: Option<Timestamp>) {
        let wait = until.map_or(PROBE_EVERY, |until| until.duration_since(clock::now()).unsigned_abs());
        let pause = Pause { reason, probe_at: Instant::now() + wait };
        let before = self.lock().insert(app_id.clone(), pause);
        if before.is_some_and(|before| before.reason == reason) {
            return;
        }
        self.metrics.app_paused(app_id, reason.as_str());
        let facts = answer.facts();
        let (errcode, errmsg) = (facts.errcode.unwrap_or_default(), facts.errmsg.unwrap_or_default());
        let ip = blocked_ip(&errmsg).unwrap_or_default();
        tracing::error!(%app_id, %reason, errcode, errmsg, ip, "app paused: WeChat refuses it, see the error code; \
            deliveries wait uncharged, and go on by themselves once it is mended");
    }

    fn probe_again(&self, app_id: &AppId) {
        if let Some(pause) = self.lock().get_mut(app_id) {
            pause.probe_at = Instant::now() + PROBE_EVERY;
        }
    }

    fn resume(&self, app_id: &AppId) {
        if let Some(pause) = self.lock().remove(app_id) {
            self.metrics.app_resumed(app_id);
            tracing::info!(%app_id, reason = %pause.reason, "app resumed: it works again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppId, Pause>> {
        // Nothing panics under this lock; if it did, the map would still be whole.
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// WeChat's days and minutes begin by Beijing's clock (facts: wechat-api 1.3, 7).
fn until(class: Class, now: Timestamp) -> Option<Timestamp> {
    let local = now.to_zoned(TimeZone::get("Asia/Shanghai").ok()?);
    match class {
        Class::Quota => local.tomorrow().ok()?.start_of_day().ok().map(|day| day.timestamp()),
        Class::Throttled => {
            let minute = local.with().second(0).subsec_nanosecond(0).build().ok()?;
            minute.checked_add(1.minute()).ok().map(|minute| minute.timestamp())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_end_by_beijings_clock() {
        let now: Timestamp = "2026-11-22T15:59:30.5Z".parse().unwrap();
        assert_eq!(until(Class::Quota, now), Some("2026-11-22T16:00:00Z".parse().unwrap()));
        assert_eq!(until(Class::Throttled, now), Some("2026-11-22T16:00:00Z".parse().unwrap()));
        assert_eq!(until(Class::Conflict, now), None);
    }
}

//! One method per fact worth counting; each keeps the number of label values small.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::IntGauge;

use super::labels::OTHER;
use super::{Metrics, locked};
use crate::domain::dead_letter::State;
use crate::domain::ids::AppId;
use crate::domain::outcome::{DeadReason, Outcome};

/// The label of a dead letter that names no app.
const NONE: &str = "none";

/// The result of receiving an event; the label `result` of `wechat_notifier_events_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventResult {
    /// Its deliveries and skips are in the ledger.
    Planned,
    /// A duplicate of an earlier event; nothing was left to do.
    Duplicate,
    /// It became a dead letter before any delivery.
    Dead,
    /// It went to its app's lane, uncharged.
    Moved,
    /// It waited for its maximum time and was deferred, uncharged.
    Deferred,
}

impl EventResult {
    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Duplicate => "duplicate",
            Self::Dead => "dead",
            Self::Moved => "moved",
            Self::Deferred => "deferred",
        }
    }
}

/// A request in flight, as long as this value lives.
#[must_use = "the request counts as over once this is dropped"]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Gives an app a label of its own; call it for each app of the registry. All others count together, as `other`, so
    /// that a publisher cannot fill our memory with invented ids.
    pub fn register_app(&self, app: &AppId) {
        self.apps.admit(app.clone(), app.as_str());
    }

    /// An event was received.
    pub fn event(&self, result: EventResult) {
        self.events.with_label_values(&[result.as_str()]).inc();
    }

    /// A delivery came to an outcome.
    pub fn delivery(&self, app: &AppId, outcome: &Outcome) {
        self.deliveries(app, outcome, 1);
    }

    /// Several deliveries came to the same outcome.
    pub fn deliveries(&self, app: &AppId, outcome: &Outcome, count: usize) {
        let (word, reason) = words(outcome);
        self.deliveries.with_label_values(&[&*self.app(app), word, reason]).inc_by(count as u64);
    }

    /// A request to WeChat ended. `class` is the answer's class; `errcode` is `None` without a readable answer.
    pub fn attempt(&self, app: &AppId, class: &'static str, errcode: Option<i64>, took: Duration) {
        let errcode = errcode.map_or_else(|| "none".into(), |code| self.errcode(code));
        self.attempts.with_label_values(&[&*self.app(app), class, &*errcode]).inc();
        self.attempt_seconds.observe(took.as_secs_f64());
    }

    /// A request starts; it ends when the returned value is dropped.
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// An incoming is in hand; it is settled, or left, when the returned value is dropped.
    pub fn incoming(&self) -> InFlight {
        self.incoming_unacked.inc();
        InFlight(self.incoming_unacked.clone())
    }

    /// WeChat accepted a message, this long after the event had reached the broker.
    pub fn end_to_end(&self, since_arrival: Duration) {
        self.end_to_end_seconds.observe(since_arrival.as_secs_f64());
    }

    /// An attempt's outcome is unknown.
    pub fn unknown(&self, app: &AppId) {
        self.unknowns.with_label_values(&[&*self.app(app)]).inc();
    }

    /// Whether PostgreSQL is usable.
    pub fn database_up(&self, is_up: bool) {
        self.database_up.set(is_up.into());
    }

    /// A statement failed. Names and codes are few: the names are ours, and PostgreSQL's codes a closed list.
    pub fn database_error(&self, statement: &str, sqlstate: &str) {
        self.database_errors.with_label_values(&[statement, sqlstate]).inc();
    }

    /// The number of unfinished deliveries, the age of the oldest, and the number of stranded ones.
    pub fn unfinished(&self, count: usize, oldest: Duration, stranded: usize) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.unfinished.set(number(count));
        self.unfinished_oldest.set(i64::try_from(oldest.as_secs()).unwrap_or(i64::MAX));
        self.stranded.set(number(stranded));
    }

    /// Whether this process is ready.
    pub fn ready(&self, is_ready: bool) {
        self.ready.set(is_ready.into());
    }

    /// How long nothing has been settled although messages are in hand.
    pub fn stalled(&self, since: Duration) {
        self.stalled_seconds.set(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    }

    /// A long-lived task panicked.
    pub fn task_panic(&self, task: &'static str) {
        self.task_panics.with_label_values(&[task]).inc();
    }

    /// The broker counts this many messages ready in a queue. Queues are ours, so their names are few.
    pub fn queue_depth(&self, queue: &str, messages: u64, now: Timestamp) {
        self.queue_depth.with_label_values(&[queue]).set(i64::try_from(messages).unwrap_or(i64::MAX));
        let mut filled = locked(&self.queues_filled);
        if messages > 0 {
            filled.entry(queue.to_owned()).or_insert(now);
        } else {
            filled.remove(queue);
            self.queue_filled.with_label_values(&[queue]).set(0);
        }
    }

    /// The broker counts these messages ready in the lanes of these apps. Apps without a label of their own count together.
    pub fn lanes(&self, depths: &[(AppId, u64)], now: Timestamp) {
        let mut by_label = BTreeMap::<Arc<str>, u64>::new();
        for (app, messages) in depths {
            *by_label.entry(self.app(app)).or_default() += messages;
        }
        let mut filled = locked(&self.lanes_filled);
        for (app, messages) in by_label {
            self.lane_depth.with_label_values(&[&*app]).set(i64::try_from(messages).unwrap_or(i64::MAX));
            if messages > 0 {
                filled.entry(app).or_insert(now);
            } else {
                filled.remove(&app);
                self.lane_filled.with_label_values(&[&*app]).set(0);
            }
        }
    }

    /// An app's token now expires at this time.
    pub fn token_expires(&self, app: &AppId, at: Timestamp) {
        if self.apps.get(app).is_some() {
            locked(&self.token_ends).insert(app.clone(), at);
        }
    }

    /// The refresher tried to fetch a token, with this result.
    pub fn token_refresh(&self, app: &AppId, result: &'static str) {
        self.token_refreshes.with_label_values(&[&*self.app(app), result]).inc();
    }

    /// An app is paused, or for another reason than before.
    pub fn app_paused(&self, app: &AppId, reason: &'static str) {
        self.app_resumed(app);
        locked(&self.pauses).insert(app.clone(), reason);
        self.app_paused.with_label_values(&[&*self.app(app), reason]).set(1);
    }

    /// An app works again.
    pub fn app_resumed(&self, app: &AppId) {
        if let Some(reason) = locked(&self.pauses).remove(app) {
            self.app_paused.with_label_values(&[&*self.app(app), reason]).set(0);
        }
    }

    /// The number of paused templates of an app.
    pub fn templates_paused(&self, app: &AppId, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.templates_paused.with_label_values(&[&*self.app(app)]).set(count);
    }

    /// The outcome of a lost claim was dropped.
    pub fn dropped_settlement(&self) {
        self.dropped_settlements.inc();
    }

    /// A dead letter was archived.
    pub fn dead_letter_archived(&self, app: Option<&str>, reason: DeadReason) {
        let app = app
            .map_or_else(|| NONE.into(), |app| AppId::parse(app).map_or(OTHER.into(), |app| self.app(&app)));
        self.dead_letters_archived.with_label_values(&[&*app, reason.as_str()]).inc();
    }

    /// The broker counts this many ready messages in the dead queue.
    pub fn dead_letters_lie(&self, messages: u64, now: Timestamp) {
        let mut since = locked(&self.dead_letters_lie_since);
        *since = (messages > 0).then(|| since.unwrap_or(now));
    }

    /// The archiver has dead letters in hand, the oldest given up at this time; or none, as it has archived them.
    pub fn dead_letters_in_hand(&self, oldest: Option<Timestamp>) {
        *locked(&self.oldest_dead_letter) = oldest;
        if oldest.is_none() {
            *locked(&self.dead_letters_lie_since) = None;
        }
    }

    /// The number of dead letters in the table by state and reason; combinations that are not listed have none.
    pub fn dead_letters(&self, count: impl Fn(State, DeadReason) -> i64) {
        for state in State::ALL.iter().copied().filter(|state| *state != State::Purged) {
            for reason in DeadReason::ALL {
                let labels = [state.as_str(), reason.as_str()];
                self.dead_letters.with_label_values(&labels).set(count(state, *reason));
            }
        }
    }

    /// A replay has ended or stopped; `result` is its state.
    pub fn replay_ended(&self, result: &str) {
        self.replays.with_label_values(&[result]).inc();
    }

    /// A replayed dead letter came to its end.
    pub fn dead_letter_replayed(&self, outcome: &str) {
        self.dead_letters_replayed.with_label_values(&[outcome]).inc();
    }

    /// One statement had this many rows; `statement` is its short name, e.g. `claim`.
    pub fn batch(&self, statement: &'static str, rows: usize) {
        // A page has a few hundred rows: far from where a float loses count.
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        self.batch_rows.with_label_values(&[statement]).observe(rows as f64);
    }

    /// Whether all required connections are up.
    pub fn broker_up(&self, up: bool) {
        self.broker_up.set(up.into());
    }

    /// Whether the broker blocks publishing.
    pub fn broker_blocked(&self, blocked: bool) {
        self.broker_blocked.set(blocked.into());
    }

    fn app(&self, app: &AppId) -> Arc<str> {
        self.apps.get(app).unwrap_or_else(|| OTHER.into())
    }

    /// The first codes seen keep their own label; there is room for all that WeChat documents.
    fn errcode(&self, code: i64) -> Arc<str> {
        let known = self.errcodes.get(&code);
        known.unwrap_or_else(|| self.errcodes.admit(code, &code.to_string()).unwrap_or_else(|| OTHER.into()))
    }
}

/// The labels `outcome` and `reason`; an outcome without a reason has an empty one.
fn words(outcome: &Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Sent { .. } => ("sent", ""),
        Outcome::Skipped(reason) => ("skipped", reason.as_str()),
        Outcome::Retry { .. } => ("retry", ""),
        Outcome::Unknown => ("unknown", ""),
        Outcome::Uncharged => ("uncharged", ""),
        Outcome::Dead(reason) => ("dead", reason.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::domain::outcome::SkipReason;

    fn app(id: &str) -> AppId {
        AppId::parse(id).unwrap()
    }

    /// Metrics that know one app, `wx1`.
    fn metrics() -> Metrics {
        let metrics = Metrics::new();
        metrics.register_app(&app("wx1"));
        metrics
    }

    fn assert_shows(metrics: &Metrics, line: &str) {
        let page = metrics.render();
        assert!(page.lines().any(|found| found == line), "no line `{line}` in\n{page}");
    }

    #[test]
    fn a_lane_shows_how_much_waits_in_it_and_since_when() {
        let metrics = metrics();
        let ago = |seconds| clock::now() - jiff::SignedDuration::from_secs(seconds);
        metrics.lanes(&[(app("wx1"), 3), (app("new-1"), 4), (app("new-2"), 5)], ago(60));
        metrics.lanes(&[(app("wx1"), 2)], ago(30));
        metrics.queue_depth("wechat.retry.10s", 7, ago(20));
        metrics.measure_queues(clock::now());
        assert_eq!(metrics.lane_filled.with_label_values(&["wx1"]).get(), 60);
        assert_eq!(metrics.queue_filled.with_label_values(&["wechat.retry.10s"]).get(), 20);
        assert_shows(&metrics, r#"wechat_notifier_lane_depth{app_id="wx1"} 2"#);
        assert_shows(&metrics, r#"wechat_notifier_lane_depth{app_id="other"} 9"#);
        metrics.lanes(&[(app("wx1"), 0)], clock::now());
        assert_shows(&metrics, r#"wechat_notifier_lane_filled_seconds{app_id="wx1"} 0"#);
    }

    #[test]
    fn dead_letters_that_lie_in_the_dead_queue_count_until_archiving_moves() {
        let metrics = metrics();
        let ago = |seconds| clock::now() - jiff::SignedDuration::from_secs(seconds);
        metrics.dead_letters_lie(3, ago(90));
        metrics.dead_letters_lie(5, ago(30));
        metrics.measure_dead_letters(clock::now());
        assert_eq!(metrics.dead_queue_oldest.get(), 90);
        // This process has archived some; then nobody takes the rest.
        metrics.dead_letters_in_hand(None);
        metrics.dead_letters_lie(2, ago(5));
        metrics.measure_dead_letters(clock::now());
        assert_eq!(metrics.dead_queue_oldest.get(), 5);
        metrics.dead_letters_lie(0, clock::now());
        metrics.measure_dead_letters(clock::now());
        assert_eq!(metrics.dead_queue_oldest.get(), 0);
    }

    #[test]
    fn an_app_nobody_registered_counts_as_other() {
        let metrics = metrics();
        metrics.unknown(&app("wx1"));
        metrics.unknown(&app("invented-1"));
        metrics.unknown(&app("invented-2"));
        assert_shows(&metrics, r#"wechat_notifier_unknowns_total{app_id="wx1"} 1"#);
        assert_shows(&metrics, r#"wechat_notifier_unknowns_total{app_id="other"} 2"#);
    }

    #[test]
    fn an_outcome_is_counted_with_its_reason() {
        let metrics = metrics();
        metrics.delivery(&app("wx1"), &Outcome::Skipped(SkipReason::Rejected));
        metrics.delivery(&app("wx1"), &Outcome::Sent { msgid: None });
        let line = |outcome, reason| {
            format!(
                r#"wechat_notifier_deliveries_total{{app_id="wx1",outcome="{outcome}",reason="{reason}"}} 1"#
            )
        };
        assert_shows(&metrics, &line("skipped", "rejected"));
        assert_shows(&metrics, &line("sent", ""));
    }

    #[test]
    fn codes_beyond_the_bound_count_as_other() {
        let metrics = metrics();
        for code in 0..i64::try_from(super::super::MAX_ERRCODES).unwrap() + 5 {
            metrics.attempt(&app("wx1"), "transient", Some(code), Duration::ZERO);
        }
        metrics.attempt(&app("wx1"), "unknown", None, Duration::ZERO);
        let line = |class, code, count| {
            format!(
                r#"wechat_notifier_attempts_total{{app_id="wx1",class="{class}",errcode="{code}"}} {count}"#
            )
        };
        assert_shows(&metrics, &line("transient", "0", 1));
        assert_shows(&metrics, &line("transient", "other", 5));
        assert_shows(&metrics, &line("unknown", "none", 1));
    }

    #[test]
    fn an_app_is_paused_for_one_reason_at_a_time() {
        let metrics = metrics();
        metrics.app_paused(&app("wx1"), "away");
        metrics.app_paused(&app("wx1"), "quota");
        let line = |reason, value| {
            format!(r#"wechat_notifier_app_paused{{app_id="wx1",reason="{reason}"}} {value}"#)
        };
        assert_shows(&metrics, &line("away", 0));
        assert_shows(&metrics, &line("quota", 1));
        metrics.app_resumed(&app("wx1"));
        assert_shows(&metrics, &line("quota", 0));
    }

    #[test]
    fn a_token_counts_down_without_anybody_touching_it() {
        let metrics = metrics();
        let end: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        metrics.token_expires(&app("wx1"), end);
        metrics.measure_tokens("2026-11-22T09:59:00Z".parse().unwrap());
        assert_eq!(metrics.token_expires.with_label_values(&["wx1"]).get(), 60);
        metrics.measure_tokens("2026-11-22T10:00:05Z".parse().unwrap());
        assert_eq!(metrics.token_expires.with_label_values(&["wx1"]).get(), -5);
    }

    #[test]
    fn a_request_is_in_flight_until_its_guard_is_gone() {
        let metrics = metrics();
        let request = metrics.in_flight();
        assert_shows(&metrics, "wechat_notifier_in_flight 1");
        drop(request);
        assert_shows(&metrics, "wechat_notifier_in_flight 0");
    }

    #[test]
    fn help_texts_are_the_doc_comments() {
        assert_shows(&metrics(), "# HELP wechat_notifier_in_flight Requests to WeChat in flight.");
    }
}

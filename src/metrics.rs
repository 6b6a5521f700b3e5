//! Every metric of the daemon, in one struct whose doc comments are the help texts.
//!
//! A metric that needs labels is private and has a method, so that label values stay few: our own words, and the ids of
//! registered apps. They stand in `record.rs`. One call costs about 0.15 µs (a hash and a shared lock), compared with
//! some 200 µs per delivery in all.

mod define;
mod labels;
mod process;
mod record;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use prometheus::{
    Counter, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, TextEncoder,
};

use crate::clock;
use crate::domain::ids::AppId;
use labels::Bounded;
use process::Usage;
pub use record::{EventResult, InFlight};

/// The content type of [`Metrics::render`]: Prometheus' text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Codes with a label of their own; WeChat documents about sixty for the calls we use. More would be a fault of theirs or an
/// attack on our memory.
const MAX_ERRCODES: usize = 100;
/// Apps with a label of their own. Each costs some forty series; a thousand still make a page that Prometheus likes.
const MAX_APPS: usize = 1_000;

/// WeChat usually answers within 50 to 300 ms; 10 s is the default timeout.
const ATTEMPT_SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];
/// From immediate to the end of the retry ladder.
const END_TO_END_SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0,
    86_400.0,
];
/// Doubling up to the largest page.
const BATCH_ROWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

define::metrics! {
    /// All metrics of one process, in a registry of their own: two daemons in one test do not see each other's.
    pub struct Metrics {
        /// Events received, by result.
        events: IntCounterVec = counters("wechat_notifier_events_total", &["result"]),
        /// Outcomes of deliveries, by app and reason; a delivery that is retried counts each time.
        deliveries: IntCounterVec = counters("wechat_notifier_deliveries_total", &["app_id", "outcome", "reason"]),
        /// Requests to WeChat, by app, class of the answer and WeChat's code (none: no readable answer).
        attempts: IntCounterVec = counters("wechat_notifier_attempts_total", &["app_id", "class", "errcode"]),
        /// Duration of requests to WeChat, in seconds.
        attempt_seconds: Histogram = histogram("wechat_notifier_attempt_seconds", ATTEMPT_SECONDS),
        /// Time from the event's arrival at the broker to WeChat's yes, in seconds.
        end_to_end_seconds: Histogram = histogram("wechat_notifier_end_to_end_seconds", END_TO_END_SECONDS),
        /// Requests to WeChat in flight.
        in_flight: IntGauge = gauge("wechat_notifier_in_flight"),
        /// Messages ready in a queue, as the broker counts them.
        queue_depth: IntGaugeVec = gauges("wechat_notifier_queue_depth", &["queue"]),
        /// Seconds since this process last saw the queue empty: its oldest message is at most that old. In a retry queue it is also no
        /// older than the queue's delay, unless the broker cannot move it on.
        queue_filled: IntGaugeVec = gauges("wechat_notifier_queue_filled_seconds", &["queue"]),
        /// Messages ready in an app's lane, as the broker counts them every 15 s. Every process counts the same lanes: use the
        /// maximum, not the sum.
        lane_depth: IntGaugeVec = gauges("wechat_notifier_lane_depth", &["app_id"]),
        /// Seconds since this process last saw the lane empty: its oldest message is at most that old.
        lane_filled: IntGaugeVec = gauges("wechat_notifier_lane_filled_seconds", &["app_id"]),
        /// Seconds until the app's access token expires; negative after that.
        token_expires: IntGaugeVec = gauges("wechat_notifier_token_expires_seconds", &["app_id"]),
        /// Attempts to fetch an access token, by result.
        token_refreshes: IntCounterVec = counters("wechat_notifier_token_refreshes_total", &["app_id", "result"]),
        /// 1 while an app is paused, by reason; 0 once it works again.
        app_paused: IntGaugeVec = gauges("wechat_notifier_app_paused", &["app_id", "reason"]),
        /// Paused templates of the app; its other templates are sent.
        templates_paused: IntGaugeVec = gauges("wechat_notifier_templates_paused", &["app_id"]),
        /// Attempts with an unknown outcome: each may have become a duplicate message.
        unknowns: IntCounterVec = counters("wechat_notifier_unknowns_total", &["app_id"]),
        /// Settled deliveries that this process deleted from the ledger by age (retention.deliveries).
        pub deliveries_removed: IntCounter = counter("wechat_notifier_deliveries_removed_total"),
        /// Outcomes that were not recorded because their claim was lost.
        dropped_settlements: IntCounter = counter("wechat_notifier_dropped_settlements_total"),
        /// Dead letters that the archiver stored in the table, by app (none: the dead letter has none) and reason.
        dead_letters_archived: IntCounterVec = counters("wechat_notifier_dead_letters_total", &["app_id", "reason"]),
        /// Dead letters in the table, by state and reason, counted every 15 s. Every process counts the same table: use the
        /// maximum, not the sum.
        dead_letters: IntGaugeVec = gauges("wechat_notifier_dead_letters", &["state", "reason"]),
        /// How far archiving is behind: age of the oldest dead letter that this process took from the dead queue and cannot archive
        /// yet, or time since this process archived one while the queue is not empty, whichever is longer; 0 while none waits.
        dead_queue_oldest: IntGauge = gauge("wechat_notifier_dead_queue_oldest_seconds"),
        /// Replays that ended or stopped, by result. Read from the table every 2 s; each counts in one process.
        replays: IntCounterVec = counters("wechat_notifier_replays_total", &["result"]),
        /// Replayed dead letters whose outcome is known, by outcome (sent, skipped, dead); each counts in one process.
        dead_letters_replayed: IntCounterVec = counters("wechat_notifier_replayed_dead_letters_total", &["outcome"]),
        /// Rows per statement of the batched kinds: 1 when idle, more under load.
        batch_rows: HistogramVec = histograms("wechat_notifier_batch_size", BATCH_ROWS, &["statement"]),
        /// 1 while all required connections to the broker are up.
        broker_up: IntGauge = gauge("wechat_notifier_broker_up"),
        /// Unfinished deliveries in the ledger, counted every 15 s. Every process counts the same table: use the maximum, not the
        /// sum.
        unfinished: IntGauge = gauge("wechat_notifier_unfinished"),
        /// Age of the oldest unfinished delivery in seconds; 0 while there is none.
        unfinished_oldest: IntGauge = gauge("wechat_notifier_unfinished_oldest_seconds"),
        /// Unfinished deliveries that have not moved for so long that no message for them can be under way:
        /// `deliveries close --stranded` gives them up.
        stranded: IntGauge = gauge("wechat_notifier_stranded"),
        /// 1 while PostgreSQL is usable: it answers, its tables are those of this release, and they can be read and written.
        database_up: IntGauge = gauge("wechat_notifier_database_up"),
        /// Failed statements, by their name and PostgreSQL's SQLSTATE (none: it could not be reached).
        database_errors: IntCounterVec = counters("wechat_notifier_database_errors_total", &["statement", "sqlstate"]),
        /// 1 while this process is ready, as `/readyz` says.
        ready: IntGauge = gauge("wechat_notifier_ready"),
        /// Seconds since a message in hand was last settled, deferred or given up; 0 while none is in hand, or while `/readyz`
        /// says why.
        stalled_seconds: IntGauge = gauge("wechat_notifier_stalled_seconds"),
        /// Panics of long-lived tasks, by task. Each is a bug: please report it.
        task_panics: IntCounterVec = counters("wechat_notifier_task_panics_total", &["task"]),
        /// 1 while the broker blocks publishing (memory or disk alarm).
        broker_blocked: IntGauge = gauge("wechat_notifier_broker_blocked"),
        /// Messages received from the broker that are not acked yet.
        pub incoming_unacked: IntGauge = gauge("wechat_notifier_incoming_unacked"),
        /// Always 1; the labels name the running build.
        build_info: IntGaugeVec = gauges("wechat_notifier_build_info", &["version", "revision", "profile"]),
        /// CPU time used by the process, user and system, in seconds.
        process_cpu: Counter = seconds("process_cpu_seconds_total"),
        /// Resident memory of the process in bytes.
        process_resident: IntGauge = gauge("process_resident_memory_bytes"),
        /// Open file descriptors.
        process_open_fds: IntGauge = gauge("process_open_fds"),
        /// Maximum number of open file descriptors.
        process_max_fds: IntGauge = gauge("process_max_fds"),
    }    beside {
        /// Registered apps: only they get a label of their own.
        apps: Bounded<AppId> = Bounded::new(MAX_APPS),
        /// WeChat's codes in the order they were first seen.
        errcodes: Bounded<i64> = Bounded::new(MAX_ERRCODES),
        /// Since when each queue has not been seen empty.
        queues_filled: Mutex<HashMap<String, Timestamp>> = Mutex::default(),
        /// The same of each lane, by its label.
        lanes_filled: Mutex<HashMap<Arc<str>, Timestamp>> = Mutex::default(),
        /// Why each paused app is paused, to clear the right series when it works again.
        pauses: Mutex<HashMap<AppId, &'static str>> = Mutex::default(),
        /// When each app's token expires; the metric is the time left when it is rendered.
        token_ends: Mutex<HashMap<AppId, Timestamp>> = Mutex::default(),
        /// When the oldest dead letter in the archiver's hands was given up.
        oldest_dead_letter: Mutex<Option<Timestamp>> = Mutex::default(),
        /// Since when the dead queue is not empty and this process has archived none.
        dead_letters_lie_since: Mutex<Option<Timestamp>> = Mutex::default(),
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A new set, all at zero.
    pub fn new() -> Self {
        let metrics = Self::register();
        let revision = option_env!("WECHAT_NOTIFIER_REVISION").unwrap_or("unknown");
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), revision, profile]).set(1);
        metrics
    }

    /// The page for Prometheus, of type [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        self.measure_tokens(clock::now());
        self.measure_dead_letters(clock::now());
        self.measure_queues(clock::now());
        self.measure_process(Usage::read());
        let mut page = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut page) {
            tracing::warn!(%error, "cannot render all metrics; the page is incomplete");
        }
        page
    }

    fn measure_tokens(&self, now: Timestamp) {
        for (app, end) in locked(&self.token_ends).iter() {
            let left_s = end.duration_since(now).as_secs();
            self.token_expires.with_label_values(&[app.as_str()]).set(left_s);
        }
    }

    fn measure_queues(&self, now: Timestamp) {
        let age_s = |since: &Timestamp| now.duration_since(*since).as_secs().max(0);
        for (queue, since) in locked(&self.queues_filled).iter() {
            self.queue_filled.with_label_values(&[queue]).set(age_s(since));
        }
        for (app, since) in locked(&self.lanes_filled).iter() {
            self.lane_filled.with_label_values(&[&**app]).set(age_s(since));
        }
    }

    fn measure_dead_letters(&self, now: Timestamp) {
        let waiting = [*locked(&self.oldest_dead_letter), *locked(&self.dead_letters_lie_since)];
        let age_s =
            waiting.into_iter().flatten().min().map_or(0, |since| now.duration_since(since).as_secs());
        self.dead_queue_oldest.set(age_s.max(0));
    }

    fn measure_process(&self, usage: Usage) {
        let set = |gauge: &IntGauge, value: Option<i64>| value.into_iter().for_each(|value| gauge.set(value));
        set(&self.process_resident, usage.resident_bytes);
        set(&self.process_open_fds, usage.open_fds);
        set(&self.process_max_fds, usage.max_fds);
        // A counter only goes up: add what came since the last reading.
        let since_last = usage.cpu_seconds.map_or(0.0, |seconds| seconds - self.process_cpu.get());
        self.process_cpu.inc_by(since_last.max(0.0));
    }
}

/// A panic elsewhere leaves a number behind, nothing that could be half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The pipeline: from an incoming message to its ack. **Read this first.**
//!
//! ```text
//! intake ─► plan ─► bring ─┬─► ready     the recipient lock, an open app, a token, a slot: all waiting is here
//!                          ├─► claim     the ledger grants the attempt, or says why not
//!                          ├─► attempt   the request, and what its answer means
//!                          └─► settle    publish onward, record in the ledger; only then ack
//! ```
//!
//! Each step takes what the one before made: `Incoming → Event → Plan → Delivery → Ready → Claim → Attempted → settled`.
//! Nothing waits between claim and request, and nothing is acked because somebody else is working on it.
//! An event for many takes the way of `fan_out`, which brings its deliveries page by page.

mod apps;
mod attempt;
mod bring;
mod claim;
mod dead_letter_log;
mod defer;
mod envelope;
mod fan_out;
mod intake;
mod lane_watch;
mod lanes;
mod ledger;
mod limits;
mod plan;
mod ready;
mod settle;
mod unlisted;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Quotas, Rates, RecipientLocks, Slots};
use crate::amqp::{Broker, Publisher, Topology};
use crate::db::Database;
use crate::db::ledger::claim::Lease;
use crate::domain::ladder::Ladder;
use crate::domain::protocol::OnUnknown;
use crate::health::{Breakers, PauseReport, Progress};
use crate::lifecycle::Tasks;
use crate::metrics::Metrics;
use crate::token::TokenCache;
use crate::wechat;

use dead_letter_log::DeadLetterLog;
pub use intake::{Intake, Source};
use lanes::Lanes;
use ledger::Ledger;
use unlisted::Unlisted;

/// The pipeline's own settings, taken from the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    pub ladder: Ladder,
    pub on_unknown: OnUnknown,
    pub default_ttl: Duration,
    pub request_timeout: Duration,
    pub lease: Lease,
    pub max_hold: Duration,
    pub max_body_bytes: usize,
    pub concurrency: usize,
}

/// Whom the pipeline works with.
pub struct Partners {
    pub db: Database,
    pub broker: Broker,
    pub wechat: wechat::Client,
    pub tokens: TokenCache,
    pub metrics: Arc<Metrics>,
    pub tasks: Tasks,
}

/// When to stop.
#[derive(Debug, Clone)]
pub struct Stops {
    /// Take no more, start no request.
    pub soft: CancellationToken,
    /// End now.
    pub hard: CancellationToken,
}

/// Everything a delivery meets on its way; shared by all tasks of a process.
pub struct Pipeline {
    settings: Settings,
    db: Database,
    ledger: Ledger,
    broker: Broker,
    publisher: Publisher,
    topology: Topology,
    wechat: wechat::Client,
    tokens: TokenCache,
    breakers: Breakers,
    recipient_locks: RecipientLocks,
    unlisted: Unlisted,
    dead_letters: DeadLetterLog,
    /// Requests in flight over all apps.
    slots: Slots,
    /// Requests per second and per day, where an app's row limits them.
    rates: Rates,
    quotas: Quotas,
    lanes: Lanes,
    /// Everything at work; the drain waits for it.
    tasks: TaskTracker,
    /// Looks after those of them that are long-lived.
    guard: Tasks,
    progress: Progress,
    metrics: Arc<Metrics>,
    stops: Stops,
}

impl Pipeline {
    /// Starts the ledger's batchers; takes in nothing yet (see [`Intake`]).
    pub fn start(settings: Settings, partners: Partners, stops: Stops) -> Arc<Self> {
        Arc::new(Self {
            ledger: Ledger::start(&partners.db, settings.lease, &partners.metrics, &partners.tasks),
            breakers: Breakers::new(Arc::clone(&partners.metrics)),
            recipient_locks: RecipientLocks::new(),
            unlisted: Unlisted::default(),
            dead_letters: DeadLetterLog::default(),
            slots: Slots::new(settings.concurrency),
            rates: Rates::new(partners.tasks.clone()),
            quotas: Quotas::new(partners.db.clone()),
            lanes: Lanes::default(),
            tasks: TaskTracker::new(),
            guard: partners.tasks,
            progress: Progress::new(settings.request_timeout),
            publisher: partners.broker.publisher(),
            topology: partners.broker.topology().clone(),
            broker: partners.broker,
            wechat: partners.wechat,
            tokens: partners.tokens,
            db: partners.db,
            metrics: partners.metrics,
            settings,
            stops,
        })
    }

    /// How messages in hand come on.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// What keeps the table of pauses.
    pub fn pause_report(&self) -> PauseReport {
        PauseReport { db: self.db.clone(), breakers: self.breakers.clone() }
    }
}

/// Why a delivery, or a whole event, was left before its end. Its message is not acked, so it comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// A soft stop came before its attempt: given back to the broker at once, uncharged.
    Unstarted,
    /// A hard stop came in the middle: the broker finds out by itself.
    Midway,
}

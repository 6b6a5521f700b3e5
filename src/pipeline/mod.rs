//! The pipeline: from an incoming message to its ack. **Read this first.**
//!
//! ```text
//! intake ─┬─ event: plan ─► fan_out ─┬─► process ─┬─► ready     a lock, a token, a share, a closed breaker: all waiting is here
//!         └─ delivery message ───────┘            ├─► claim     the ledger grants the attempt, or says why not
//!                                                 ├─► attempt   the request, and what its answer means
//!                                                 └─► settle    publish onward, record in the ledger; only then ack
//! ```
//!
//! Each step takes what the one before made: `Incoming → Event → Planned → Job → Ready → Claim → Attempted`, and its end is a
//! `Disposition`. A [`Job`](job::Job) is a delivery with the envelope of the message that brought it, and all that we know of its
//! app. Nothing waits between claim and request, and nothing is acked because somebody else is working on it.
//!
//! Each step is a struct that owns just the partners that it uses; `assembly` puts them together.

mod app_runtime;
mod apps;
mod assembly;
mod attempt;
mod claim;
mod dead_letter_log;
mod dead_letterer;
mod defer;
mod envelope;
mod fan_out;
mod intake;
mod job;
mod lane_watch;
mod lanes;
mod ledger;
mod limit_watch;
mod plan;
mod process;
mod publish;
mod ready;
mod settle;
mod unlisted;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::amqp::Subscription;
use crate::health::{PauseReport, StallDetector};

use apps::Apps;
use assembly::Assembly;
pub use assembly::{Partners, Settings, Stops};
use dead_letter_log::DeadLetterLog;
use intake::Intake;
pub use intake::Source;
pub use lane_watch::LaneWatch;
use lanes::Lanes;
pub use limit_watch::LimitWatch;

/// The pipeline at work, and the loops that go with it.
pub struct Pipeline {
    intake: Arc<Intake>,
    apps: Arc<Apps>,
    dead_letter_log: DeadLetterLog,
    /// Everything at work; the drain waits for it.
    tasks: TaskTracker,
    /// Says whether messages in hand make progress.
    pub stall_detector: Arc<StallDetector>,
    pub lane_watch: Arc<LaneWatch>,
    pub limit_watch: Arc<LimitWatch>,
    pub pause_report: PauseReport,
}

impl Pipeline {
    /// Starts what works behind the pipeline; takes in nothing yet (see [`Self::feed`]).
    pub fn start(settings: Settings, partners: Partners, stops: Stops) -> Arc<Self> {
        let (tasks, max_hold) = (TaskTracker::new(), settings.max_hold);
        let (meet, newly_met) = mpsc::unbounded_channel();
        let assembly = Assembly::new(settings, partners, stops, meet);
        let intake = Arc::new(assembly.intake(tasks.clone()));
        let Assembly { partners, stops, breakers, limits, apps, stall_detector, dead_letterer, .. } =
            assembly;
        let (broker, metrics) = (partners.broker, partners.metrics);
        Lanes::start(Lanes {
            intake: Arc::clone(&intake),
            broker: broker.clone(),
            max_hold,
            newly_met: newly_met.into(),
            guard: partners.tasks,
            tasks: tasks.clone(),
            soft_stop: stops.soft,
        });
        Arc::new(Self {
            lane_watch: Arc::new(LaneWatch { broker: broker.clone(), apps: Arc::clone(&apps), metrics }),
            limit_watch: Arc::new(LimitWatch { broker, apps: Arc::clone(&apps), limits }),
            pause_report: PauseReport { db: partners.db, breakers },
            dead_letter_log: dead_letterer.log,
            intake,
            apps,
            tasks,
            stall_detector,
        })
    }

    /// Feeds from one queue until the soft stop. The subscription's prefetch bounds what is in hand.
    pub async fn feed(&self, subscription: Subscription, source: Source, beat: impl Fn()) {
        self.intake.feed(subscription, source, beat).await;
    }

    /// Waits until everything taken in has ended. The caller bounds it.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        for app in self.apps.all_met() {
            app.limits.put_quota_back().await;
        }
        self.dead_letter_log.finish();
    }
}

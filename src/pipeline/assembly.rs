//! Putting the steps together, each with the partners that it uses.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::app_runtime::AppRuntime;
use super::apps::Apps;
use super::attempt::Attempter;
use super::claim::Claimer;
use super::dead_letter_log::DeadLetterLog;
use super::dead_letterer::DeadLetterer;
use super::defer::Deferrer;
use super::fan_out::FanOut;
use super::intake::{Intake, Worker};
use super::ledger::Ledger;
use super::plan::Planner;
use super::process::Processor;
use super::publish::OnwardPublisher;
use super::ready::Admitter;
use super::settle::Settler;
use super::unlisted::Unlisted;
use crate::admission::{Limits, RecipientLocks};
use crate::amqp::Broker;
use crate::db::Database;
use crate::db::ledger::claim::Lease;
use crate::domain::ladder::Ladder;
use crate::domain::protocol::OnUnknown;
use crate::health::{Breakers, StallDetector};
use crate::lifecycle::Tasks;
use crate::metrics::Metrics;
use crate::token::TokenCache;
use crate::wechat;

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

/// What several steps use. It ends with the assembly; no step keeps it.
pub(super) struct Assembly {
    settings: Settings,
    pub(super) partners: Partners,
    pub(super) stops: Stops,
    pub(super) breakers: Breakers,
    pub(super) limits: Limits,
    pub(super) apps: Arc<Apps>,
    pub(super) stall_detector: Arc<StallDetector>,
    ledger: Ledger,
    deferrer: Deferrer,
    pub(super) dead_letterer: DeadLetterer,
}

impl Assembly {
    /// Starts the ledger's batchers. Apps are announced to `newly_met` when they are met.
    pub(super) fn new(
        settings: Settings,
        partners: Partners,
        stops: Stops,
        newly_met: mpsc::UnboundedSender<Arc<AppRuntime>>,
    ) -> Self {
        let Partners { db, broker, tokens, metrics, tasks, .. } = &partners;
        let breakers = Breakers::new(Arc::clone(metrics));
        let limits = Limits::new(settings.concurrency, db.clone(), tasks.clone());
        let ladder = Arc::new(settings.ladder.clone());
        let apps = Arc::new(Apps::new(tokens.clone(), breakers.clone(), limits.clone(), ladder, newly_met));
        let ledger = Ledger::start(db, settings.lease, metrics, tasks);
        let publisher = OnwardPublisher {
            publisher: broker.publisher(),
            topology: broker.topology().clone(),
            hard_stop: stops.hard.clone(),
        };
        let dead_letterer = DeadLetterer {
            publisher: publisher.clone(),
            log: DeadLetterLog::default(),
            metrics: Arc::clone(metrics),
        };
        let deferrer = Deferrer {
            publisher,
            apps: Arc::clone(&apps),
            ledger: ledger.clone(),
            dead_letterer: dead_letterer.clone(),
            metrics: Arc::clone(metrics),
        };
        let stall_detector = Arc::new(StallDetector::new(settings.request_timeout));
        Self {
            settings,
            partners,
            stops,
            breakers,
            limits,
            apps,
            stall_detector,
            ledger,
            deferrer,
            dead_letterer,
        }
    }

    /// The first step, with all that follow. `tasks` gets whatever it takes in.
    pub(super) fn intake(&self, tasks: TaskTracker) -> Intake {
        Intake {
            worker: self.worker(),
            dead_letterer: self.dead_letterer.clone(),
            stall_detector: Arc::clone(&self.stall_detector),
            metrics: self.metrics(),
            tasks,
            soft_stop: self.stops.soft.clone(),
            hard_stop: self.stops.hard.clone(),
        }
    }

    fn worker(&self) -> Worker {
        let processor = Arc::new(self.processor());
        Worker {
            max_body_bytes: self.settings.max_body_bytes,
            default_ttl: self.settings.default_ttl,
            db: self.partners.db.clone(),
            apps: Arc::clone(&self.apps),
            planner: self.planner(),
            fan_out: self.fan_out(Arc::clone(&processor)),
            processor,
            deferrer: self.deferrer.clone(),
            dead_letterer: self.dead_letterer.clone(),
            metrics: self.metrics(),
            soft_stop: self.stops.soft.clone(),
        }
    }

    fn planner(&self) -> Planner {
        Planner {
            ledger: self.ledger.clone(),
            dead_letterer: self.dead_letterer.clone(),
            metrics: self.metrics(),
        }
    }

    fn fan_out(&self, processor: Arc<Processor>) -> FanOut {
        FanOut {
            db: self.partners.db.clone(),
            apps: Arc::clone(&self.apps),
            ledger: self.ledger.clone(),
            processor,
            deferrer: self.deferrer.clone(),
            dead_letterer: self.dead_letterer.clone(),
            max_hold: self.settings.max_hold,
            metrics: self.metrics(),
        }
    }

    fn processor(&self) -> Processor {
        Processor {
            admitter: Admitter {
                breakers: self.breakers.clone(),
                recipient_locks: RecipientLocks::default(),
                max_hold: self.settings.max_hold,
                soft_stop: self.stops.soft.clone(),
            },
            claimer: Claimer {
                ledger: self.ledger.clone(),
                lease: self.settings.lease.lasts,
                on_unknown: self.settings.on_unknown,
                metrics: self.metrics(),
            },
            attempter: self.attempter(),
            settler: Settler {
                ledger: self.ledger.clone(),
                deferrer: self.deferrer.clone(),
                dead_letterer: self.dead_letterer.clone(),
                stall_detector: Arc::clone(&self.stall_detector),
                metrics: self.metrics(),
            },
            deferrer: self.deferrer.clone(),
            dead_letterer: self.dead_letterer.clone(),
            soft_stop: self.stops.soft.clone(),
        }
    }

    fn attempter(&self) -> Attempter {
        Attempter {
            wechat: self.partners.wechat.clone(),
            tokens: self.partners.tokens.clone(),
            unlisted: Unlisted::default(),
            metrics: self.metrics(),
            on_unknown: self.settings.on_unknown,
            request_timeout: self.settings.request_timeout,
            soft_stop: self.stops.soft.clone(),
        }
    }

    fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.partners.metrics)
    }
}

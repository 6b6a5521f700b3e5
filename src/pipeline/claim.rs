//! Asking the ledger for the attempt.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::job::Job;
use super::ledger::Ledger;
use crate::db;
use crate::db::ledger::claim;
use crate::domain::protocol::{DeliveryMessage, Meeting, OnUnknown};
use crate::metrics::Metrics;

/// Claims deliveries; what follows from a refused claim is for the caller to do.
pub(super) struct Claimer {
    pub(super) ledger: Ledger,
    pub(super) lease: Duration,
    pub(super) on_unknown: OnUnknown,
    pub(super) metrics: Arc<Metrics>,
}

/// What the ledger says.
pub(super) enum Claimed {
    /// It is ours.
    Granted(Claim),
    /// It is ours, taken over only to be given up: policy forbids another attempt.
    ToGiveUp(Claim),
    /// Another attempt holds it.
    Busy,
    /// The row carries other data or another page: the event id was used twice.
    Reused,
    /// It is finished, or our message is an echo.
    Over,
}

/// A claim in hand.
pub(super) struct Claim {
    pub(super) row: claim::Claim,
    /// The lease's end by our monotonic clock, counted from before the question: never later than the ledger's.
    lease_ends: Instant,
}

impl Claimer {
    /// Claims the delivery. An error is the fault of a value in it, which PostgreSQL would refuse again.
    pub(super) async fn claim(&self, job: &Job) -> Result<Claimed, db::Error> {
        let lease_ends = Instant::now() + self.lease;
        let answer = self.ledger.claim(&self.request(job)).await?;
        if answer.reused {
            return Ok(Claimed::Reused);
        }
        let claim = answer.claim.map(|row| Claim { row, lease_ends });
        Ok(match (answer.meeting, claim) {
            (Meeting::TakeOverAndGiveUp | Meeting::GiveUp, Some(claim)) => {
                self.metrics.unknown(&job.delivery.event.app_id);
                Claimed::ToGiveUp(claim)
            }
            (Meeting::TakeOver, Some(claim)) => {
                self.metrics.unknown(&job.delivery.event.app_id);
                Claimed::Granted(claim)
            }
            (_, Some(claim)) => Claimed::Granted(claim),
            (Meeting::Busy, None) => Claimed::Busy,
            (_finished_or_echo, None) => Claimed::Over,
        })
    }

    fn request(&self, job: &Job) -> claim::Request {
        let delivery = &job.delivery;
        claim::Request {
            event: Arc::clone(&delivery.event),
            recipient: delivery.recipient.clone(),
            delivery_message: DeliveryMessage {
                epoch: delivery.progress.epoch,
                replay: delivery.progress.replay,
                claim: Uuid::new_v4(),
                on_unknown: delivery.event.on_unknown(self.on_unknown),
            },
            trace_id: job.envelope.trace_id.clone(),
        }
    }
}

impl Claim {
    /// May a request that can take `longest` still start?
    pub(super) fn allows(&self, longest: Duration) -> bool {
        Instant::now() + longest < self.lease_ends
    }

    /// How long one may wait so that a request that can take `longest` still fits behind; `None` if none fits any more.
    pub(super) fn time_for(&self, longest: Duration) -> Option<Duration> {
        self.lease_ends.checked_duration_since(Instant::now())?.checked_sub(longest)
    }
}

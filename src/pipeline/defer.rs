//! Deferring: a message is published onward, and our part ends. Confirmed before anything is recorded or acked.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::app_runtime::AppRuntime;
use super::apps::{Apps, ResolvedApp};
use super::dead_letterer::DeadLetterer;
use super::envelope::Envelope;
use super::job::{Disposition, Job, Unsettled, Wait};
use super::ledger::Ledger;
use super::publish::OnwardPublisher;
use crate::clock;
use crate::db::ledger::record;
use crate::domain::delivery::Progress;
use crate::domain::recipient::Recipient;
use crate::failpoint::crash_point;
use crate::metrics::{EventResult, Metrics};

/// Defers deliveries, and whole messages. Cheap to clone.
#[derive(Clone)]
pub(super) struct Deferrer {
    pub(super) publisher: OnwardPublisher,
    pub(super) apps: Arc<Apps>,
    pub(super) ledger: Ledger,
    pub(super) dead_letterer: DeadLetterer,
    pub(super) metrics: Arc<Metrics>,
}

impl Deferrer {
    /// Defers a delivery that came in a message of its own, or may get one, if it turned out that it must wait.
    pub(super) async fn if_it_must_wait(&self, job: &Job, disposition: Disposition) -> Disposition {
        match disposition {
            Err(Unsettled::ToDefer(wait)) => self.delivery(job, wait).await,
            disposition => disposition,
        }
    }

    /// Defers a delivery as it is: same epoch, same step, uncharged.
    pub(super) async fn delivery(&self, job: &Job, wait: Wait) -> Disposition {
        match (wait, &job.app) {
            (Wait::InLane, Ok(app)) if !app.is_gone() => self.to_lane(job, app, job.delivery.progress).await,
            (Wait::Briefly | Wait::InLane, _) => {
                self.to_ladder(job, job.delivery.progress, self.apps.ladder_of(&job.app).first()).await
            }
            // Boxed, as it is rare: room for it would be copied with each delivery.
            (Wait::Until(due), _) => Box::pin(self.until(job, due)).await,
        }
    }

    /// A delivery for later: its row says so, and its message goes round the ladder until then. Charges nothing.
    async fn until(&self, job: &Job, due: Timestamp) -> Disposition {
        let Job { delivery, envelope, .. } = job;
        if delivery.progress.epoch == 0 && !matches!(delivery.recipient, Recipient::Nobody) {
            let planned = record::Request {
                event: Arc::clone(&delivery.event),
                recipient: delivery.recipient.clone(),
                what: record::What::Planned(due),
                trace_id: envelope.trace_id.clone(),
            };
            if let Err(refused) = self.ledger.record(&planned).await {
                return self.dead_letterer.refused(job, &refused).await;
            }
        }
        crash_point("due_recorded");
        let progress = Progress { due: Some(due), ..delivery.progress };
        self.to_ladder(job, progress, self.apps.ladder_of(&job.app).towards(time_until(due))).await
    }

    /// Publishes a delivery's message to the ladder's step of this delay.
    pub(super) async fn to_ladder(&self, job: &Job, progress: Progress, delay: Duration) -> Disposition {
        self.publisher.to_ladder(delay, job.envelope.delivery_message(&job.delivery, progress)).await
    }

    /// Publishes a delivery's message to its app's lane.
    pub(super) async fn to_lane(&self, job: &Job, app: &AppRuntime, progress: Progress) -> Disposition {
        let message = job.envelope.delivery_message(&job.delivery, progress);
        self.publisher.to_lane(&app.app_id, message).await?;
        app.lane_filled.notify_one();
        Ok(())
    }

    /// Defers a whole event as it came. The way for an event for many: one message, whatever is still to be done of it is in the
    /// ledger.
    pub(super) async fn event(&self, envelope: &Envelope, app: &ResolvedApp, wait: Wait) -> Disposition {
        let delay = match (wait, app) {
            (Wait::InLane, Ok(app)) if !app.is_gone() => return self.message_to_lane(envelope, app).await,
            // Where the app's row is gone, the next look at the event finds that out; nobody consumes its lane any more.
            (Wait::Briefly | Wait::InLane, _) => self.apps.ladder_of(app).first(),
            (Wait::Until(due), _) => self.apps.ladder_of(app).towards(time_until(due)),
        };
        self.publisher.to_ladder(delay, envelope.event_again()).await?;
        self.metrics.event(EventResult::Deferred);
        Ok(())
    }

    /// Moves a message to its app's lane as it is: uncharged, and before any SQL.
    pub(super) async fn message_to_lane(&self, envelope: &Envelope, app: &AppRuntime) -> Disposition {
        self.publisher.to_lane(&app.app_id, envelope.message.clone()).await?;
        // Only now: a queue that two channels declare at once may take its consumer's connection down (RabbitMQ 3.10).
        app.lane_filled.notify_one();
        Ok(())
    }
}

fn time_until(due: Timestamp) -> Duration {
    due.duration_since(clock::now()).try_into().unwrap_or_default()
}

//! Acting on an outcome: publish onward, record it in the ledger. The ack follows when both are done.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::attempt::Attempted;
use super::claim::Claim;
use super::dead_letterer::DeadLetterer;
use super::defer::Deferrer;
use super::job::{Disposition, Job, Wait};
use super::ledger::Ledger;
use crate::clock;
use crate::db::ledger::settle::{self, ConsentChange, Ending};
use crate::domain::answer::Class;
use crate::domain::dead_letter::DeadLetter;
use crate::domain::delivery::{Delivery, Progress};
use crate::domain::message_kind::MessageKind;
use crate::domain::outcome::{AnswerFacts, DeadReason, Outcome};
use crate::domain::protocol::Settling;
use crate::failpoint::{crash_point, panic_point};
use crate::health::StallDetector;
use crate::metrics::Metrics;

/// A statement that PostgreSQL refuses needs a person; asking more often only fills its log.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// Settles claimed deliveries.
pub(super) struct Settler {
    pub(super) ledger: Ledger,
    pub(super) deferrer: Deferrer,
    pub(super) dead_letterer: DeadLetterer,
    pub(super) stall_detector: Arc<StallDetector>,
    pub(super) metrics: Arc<Metrics>,
}

impl Settler {
    /// Settles one attempt. Afterwards the message that brought it may be acked.
    pub(super) async fn settle(&self, job: &Job, claim: &Claim, attempted: Attempted) -> Disposition {
        panic_point("settle");
        if attempted.unknown {
            self.metrics.unknown(&job.delivery.event.app_id);
        }
        let ending = self.publish_onward(job, claim, &attempted).await?;
        let settling = self.record(&request(job, claim, &attempted, ending)).await;
        // An event for many is one message in hand for minutes; each of its deliveries is progress.
        self.stall_detector.progress();
        match settling {
            Settling::Record | Settling::Insert => {
                crash_point("settled");
                self.count(job, &attempted.outcome);
                Ok(())
            }
            Settling::AlreadySent => Ok(()),
            Settling::Drop => {
                self.metrics.dropped_settlement();
                Ok(())
            }
            Settling::DropAndDefer => {
                self.metrics.dropped_settlement();
                self.deferrer.delivery(job, Wait::Briefly).await
            }
        }
    }

    /// Whatever must go on is published, and confirmed, before the ledger says so.
    async fn publish_onward(&self, job: &Job, claim: &Claim, attempted: &Attempted) -> Disposition<Ending> {
        let same = job.delivery.progress;
        let failed = Progress { first_failed: same.first_failed.or(Some(clock::now())), ..same };
        match attempted.outcome {
            Outcome::Sent { msgid } => Ok(Ending::Sent { msgid }),
            Outcome::Skipped(reason) => Ok(Ending::Skipped(reason)),
            Outcome::Retry { step, after } => self.to_ladder(job, Progress { step, ..failed }, after).await,
            Outcome::Unknown => {
                self.to_ladder(job, failed, self.deferrer.apps.ladder_of(&job.app).first()).await
            }
            Outcome::Uncharged if attempted.unknown => {
                // Each of these may have reached the user, and while an outage lasts policy does not end it: ever more rarely.
                let before = usize::try_from(claim.row.unknowns).unwrap_or_default();
                self.to_ladder(job, failed, self.deferrer.apps.ladder_of(&job.app).nth(before)).await
            }
            Outcome::Uncharged => self.to_lane_if_paused(job).await,
            Outcome::Dead(reason) => {
                let dead_letter = dead_letter(&job.delivery, claim, attempted, reason);
                self.dead_letterer.delivery(job, &dead_letter).await?;
                crash_point("dead_letter_published");
                Ok(Ending::Dead(reason))
            }
        }
    }

    /// Defers what is not the delivery's fault: to its app's lane while the app is paused, else once round the ladder.
    async fn to_lane_if_paused(&self, job: &Job) -> Disposition<Ending> {
        if let Ok(app) = &job.app
            && let Some(due_at) = app.breaker.paused_until()
        {
            let (progress, epoch) = next_epoch(&job.delivery, job.delivery.progress);
            self.deferrer.to_lane(job, app, progress).await?;
            crash_point("deferred");
            return Ok(Ending::Retrying { epoch, due_at });
        }
        self.to_ladder(job, job.delivery.progress, self.deferrer.apps.ladder_of(&job.app).first()).await
    }

    async fn to_ladder(&self, job: &Job, progress: Progress, delay: Duration) -> Disposition<Ending> {
        let (progress, epoch) = next_epoch(&job.delivery, progress);
        self.deferrer.to_ladder(job, progress, delay).await?;
        crash_point("deferred");
        Ok(Ending::Retrying { epoch, due_at: from_now(delay) })
    }

    /// Records, for as long as it takes: after WeChat's yes the settlement is repeated, never the message.
    async fn record(&self, request: &settle::Request) -> Settling {
        loop {
            match self.ledger.settle(request).await {
                Ok(settling) => return settling,
                Err(refused) => {
                    tracing::error!(error = %refused, event_id = %request.event.event_id,
                        "PostgreSQL refuses to record an outcome; it is kept in memory and retried");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }

    fn count(&self, Job { delivery, envelope, .. }: &Job, outcome: &Outcome) {
        self.metrics.delivery(&delivery.event.app_id, outcome);
        if matches!(outcome, Outcome::Sent { .. }) {
            let began = envelope.published_at().or(delivery.event.occurred_at).unwrap_or(envelope.first_seen);
            // Clocks differ; nothing arrives before it was published.
            let took = clock::now().duration_since(began).try_into().unwrap_or_default();
            self.metrics.end_to_end(took);
        }
    }
}

/// The replay has done its work with the claim; from here on it is an ordinary delivery.
fn next_epoch(delivery: &Delivery, progress: Progress) -> (Progress, i32) {
    let epoch = delivery.progress.epoch.saturating_add(1);
    (Progress { epoch, replay: false, ..progress }, epoch)
}

fn from_now(wait: Duration) -> Timestamp {
    clock::now().saturating_add(wait).unwrap_or(Timestamp::MAX)
}

fn request(job: &Job, claim: &Claim, attempted: &Attempted, ending: Ending) -> settle::Request {
    let delivery = &job.delivery;
    settle::Request {
        event: Arc::clone(&delivery.event),
        recipient: delivery.recipient.clone(),
        row_id: claim.row.row_id,
        claim: claim.row.claim,
        ending,
        facts: attempted.facts.clone(),
        attempts: attempted.charged,
        unknown: attempted.unknown,
        // What an outage of the app left unknown is not held against the delivery by the policy.
        timed_out: attempted.unknown && attempted.outcome != Outcome::Uncharged,
        consent: consent_change(delivery.event.kind, claim, attempted),
        user_id: claim.row.user_id,
        token_generation: attempted.token_generation,
        trace_id: job.envelope.trace_id.clone(),
        epoch: delivery.progress.epoch,
    }
}

/// Only WeChat's word changes consent: a yes uses a counted send, a refusal closes it.
fn consent_change(kind: MessageKind, claim: &Claim, attempted: &Attempted) -> ConsentChange {
    if !kind.needs_consent() {
        return ConsentChange::Nothing;
    }
    let remaining = claim.row.consent.and_then(|consent| consent.remaining);
    match (&attempted.outcome, attempted.class) {
        (Outcome::Sent { .. }, _) if remaining.is_some() => ConsentChange::Used,
        (Outcome::Skipped(_), Some(Class::Recipient(refusal))) => {
            ConsentChange::Closed(refusal.closing(remaining, claim.row.unknowns))
        }
        _ => ConsentChange::Nothing,
    }
}

fn dead_letter(delivery: &Delivery, claim: &Claim, attempted: &Attempted, reason: DeadReason) -> DeadLetter {
    let AnswerFacts { errcode, errmsg, rid, field } = attempted.facts.clone();
    DeadLetter {
        class: attempted.class.map(|class| class.as_str().to_owned()),
        errcode,
        errmsg,
        rid,
        field,
        token_generation: attempted.token_generation,
        attempts: claim.row.attempts + attempted.charged,
        ..DeadLetter::of_delivery(delivery, reason)
    }
}

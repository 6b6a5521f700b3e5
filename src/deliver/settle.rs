//! Acting on an outcome: publish onward, record it in the ledger. The ack follows when both are done.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::attempt::Attempted;
use super::claim::Claim;
use super::defer::{DeadLetter, Life};
use super::envelope::Envelope;
use super::{Left, Pipeline};
use crate::clock;
use crate::db::ledger::settle::{self, ConsentChange, Ending};
use crate::domain::answer::Class;
use crate::domain::dead_letter;
use crate::domain::delivery::{Delivery, Progress};
use crate::domain::outcome::{DeadReason, Outcome};
use crate::domain::protocol::Settling;
use crate::failpoint::{crash_point, panic_point};

impl Pipeline {
    /// Settles one attempt. Afterwards the message that brought it may be acked.
    pub(super) async fn settle(
        self: &Arc<Self>,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
        claim: &Claim,
        attempted: Attempted,
    ) -> Result<(), Left> {
        panic_point("settle");
        if attempted.unknown {
            self.metrics.unknown(&delivery.event.app_id);
        }
        let ending = self.publish_onward(delivery, envelope, claim, &attempted).await?;
        let request = request(delivery, envelope, claim, &attempted, ending);
        let settling = self.record(&request).await;
        // An event for many is one message in hand for minutes; each of its deliveries is progress.
        self.progress.beat();
        match settling {
            Settling::Record | Settling::Insert => {
                crash_point("settled");
                self.count(delivery, envelope, &attempted.outcome);
                Ok(())
            }
            Settling::AlreadySent => Ok(()),
            Settling::Drop => {
                self.metrics.dropped_settlement();
                Ok(())
            }
            Settling::DropAndDefer => {
                self.metrics.dropped_settlement();
                self.defer_unchanged(delivery, envelope, self.settings.ladder.first()).await
            }
        }
    }

    /// Whatever must go on is published, and confirmed, before the ledger says so.
    async fn publish_onward(
        self: &Arc<Self>,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
        claim: &Claim,
        attempted: &Attempted,
    ) -> Result<Ending, Left> {
        let first = self.settings.ladder.first();
        let same = delivery.progress;
        let failed = Progress { first_failed: same.first_failed.or(Some(clock::now())), ..same };
        match attempted.outcome {
            Outcome::Sent { msgid } => Ok(Ending::Sent { msgid }),
            Outcome::Skipped(reason) => Ok(Ending::Skipped(reason)),
            Outcome::Retry { step, after } => {
                self.next_epoch(delivery, envelope, Progress { step, ..failed }, after).await
            }
            Outcome::Unknown => self.next_epoch(delivery, envelope, failed, first).await,
            Outcome::Uncharged if attempted.unknown => {
                // Each of these may have reached the user, and while an outage lasts policy does not end it: ever more rarely.
                let before = usize::try_from(claim.row.unknowns).unwrap_or_default();
                self.next_epoch(delivery, envelope, failed, self.settings.ladder.nth(before)).await
            }
            Outcome::Uncharged => self.set_aside(delivery, envelope).await,
            Outcome::Dead(reason) => {
                let dead_letter = dead_letter(delivery, claim, attempted, reason);
                self.publish_dead_letter(delivery, envelope, &dead_letter).await?;
                self.dead_letters.of_delivery(delivery, envelope, &dead_letter);
                crash_point("dead_letter_published");
                Ok(Ending::Dead(reason))
            }
        }
    }

    /// Defers what is not the delivery's fault: to its app's lane while the app is paused, else once round the ladder.
    async fn set_aside(
        self: &Arc<Self>,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
    ) -> Result<Ending, Left> {
        let first = self.settings.ladder.first();
        let Some(due_at) = self.breakers.of(&delivery.event.app_id).paused_until() else {
            return self.next_epoch(delivery, envelope, delivery.progress, first).await;
        };
        let (progress, epoch) = next_epoch(delivery, delivery.progress);
        self.defer_to_lane(delivery, envelope, progress).await?;
        crash_point("deferred");
        Ok(Ending::Retrying { epoch, due_at })
    }

    async fn next_epoch(
        &self,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
        progress: Progress,
        delay: Duration,
    ) -> Result<Ending, Left> {
        let (progress, epoch) = next_epoch(delivery, progress);
        self.publish_delivery_message(delivery, envelope, progress, delay).await?;
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

    fn count(&self, delivery: &Delivery, envelope: &Envelope, outcome: &Outcome) {
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

/// A statement that PostgreSQL refuses needs a person; asking more often only fills its log.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

fn request(
    delivery: &Delivery,
    envelope: &Envelope,
    claim: &Claim,
    attempted: &Attempted,
    ending: Ending,
) -> settle::Request {
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
        consent: consent_change(claim, attempted),
        user_id: claim.row.user_id,
        token_generation: attempted.token_generation,
        trace_id: envelope.trace_id.clone(),
        epoch: delivery.progress.epoch,
    }
}

/// Only WeChat's word changes consent: a yes uses a counted send, a refusal closes it.
fn consent_change(claim: &Claim, attempted: &Attempted) -> ConsentChange {
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
    DeadLetter {
        dead_letter: dead_letter::of_delivery(&delivery.event, &delivery.recipient, delivery.progress.epoch),
        reason,
        life: Life {
            facts: attempted.facts.clone(),
            class: attempted.class,
            token_generation: attempted.token_generation,
            attempts: claim.row.attempts + attempted.charged,
            first_failed: delivery.progress.first_failed,
        },
        detail: None,
    }
}

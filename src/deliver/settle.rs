//! Acting on an outcome: publish onward, record it in the ledger. The ack follows when both are done.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::attempt::Attempted;
use super::claim::Claim;
use super::hand_on::{Life, Obituary};
use super::origin::Origin;
use super::{Left, Pipeline};
use crate::clock;
use crate::db::settle::{self, ConsentChange, Ending};
use crate::domain::consent::Closing;
use crate::domain::delivery::{Delivery, Progress};
use crate::domain::letter;
use crate::domain::outcome::{DeadReason, Outcome, SkipReason};
use crate::domain::protocol::Settling;
use crate::failpoint::{crash_point, panic_point};

impl Pipeline {
    /// Settles one attempt. Afterwards the message that brought it may be acked.
    pub(super) async fn settle(
        self: &Arc<Self>,
        delivery: &Delivery,
        origin: &Arc<Origin>,
        claim: &Claim,
        attempted: Attempted,
    ) -> Result<(), Left> {
        panic_point("settle");
        if attempted.unknown {
            self.metrics.unknown(&delivery.event.app_id);
        }
        let ending = self.publish_onward(delivery, origin, claim, &attempted).await?;
        let request = request(delivery, origin, claim, &attempted, ending);
        let settling = self.record(&request).await;
        // An event for many is one message in hand for minutes; each of its deliveries is progress.
        self.progress.beat();
        match settling {
            Settling::Record | Settling::Insert => {
                crash_point("settled");
                self.count(delivery, origin, &attempted.outcome);
                Ok(())
            }
            Settling::AlreadySent => Ok(()),
            Settling::Drop => {
                self.metrics.dropped_settlement();
                Ok(())
            }
            Settling::DropAndHandOn => {
                self.metrics.dropped_settlement();
                self.hand_on_unchanged(delivery, origin, self.settings.ladder.first()).await
            }
        }
    }

    /// Whatever must go on is published, and confirmed, before the ledger says so.
    async fn publish_onward(
        self: &Arc<Self>,
        delivery: &Delivery,
        origin: &Arc<Origin>,
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
                self.next_turn(delivery, origin, Progress { step, ..failed }, after).await
            }
            Outcome::Unknown => self.next_turn(delivery, origin, failed, first).await,
            Outcome::Uncharged if attempted.unknown => {
                // Each of these may have reached the user, and while an outage lasts policy does not end it: ever more rarely.
                let before = usize::try_from(claim.row.unknowns).unwrap_or_default();
                self.next_turn(delivery, origin, failed, self.settings.ladder.nth(before)).await
            }
            Outcome::Uncharged => self.set_aside(delivery, origin).await,
            Outcome::Dead(reason) => {
                let obituary = obituary(delivery, claim, attempted, reason);
                self.publish_letter(delivery, origin, &obituary).await?;
                self.dead_letters.of_delivery(delivery, origin, &obituary);
                crash_point("letter_published");
                Ok(Ending::Dead(reason))
            }
        }
    }

    /// Hands on what is not the delivery's fault: to its app's lane while the app is paused, else once round the ladder.
    async fn set_aside(self: &Arc<Self>, delivery: &Delivery, origin: &Arc<Origin>) -> Result<Ending, Left> {
        let first = self.settings.ladder.first();
        let Some(due_at) = self.gates.of(&delivery.event.app_id).paused_until() else {
            return self.next_turn(delivery, origin, delivery.progress, first).await;
        };
        let (progress, turn) = next_turn(delivery, delivery.progress);
        self.hand_to_lane(delivery, origin, progress).await?;
        crash_point("handed_on");
        Ok(Ending::Retrying { turn, due_at })
    }

    async fn next_turn(
        &self,
        delivery: &Delivery,
        origin: &Arc<Origin>,
        progress: Progress,
        delay: Duration,
    ) -> Result<Ending, Left> {
        let (progress, turn) = next_turn(delivery, progress);
        self.publish_carrier(delivery, origin, progress, delay).await?;
        crash_point("handed_on");
        Ok(Ending::Retrying { turn, due_at: from_now(delay) })
    }

    /// Records, for as long as it takes: after WeChat's yes the settlement is repeated, never the message.
    async fn record(&self, request: &settle::Request) -> Settling {
        loop {
            match self.ledger.settle(request).await {
                Ok(settling) => return settling,
                Err(refused) => {
                    tracing::error!(error = %refused, event_id = %request.event.event_id,
                        "PostgreSQL refuses to record an outcome; it is kept in memory and tried again");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }

    fn count(&self, delivery: &Delivery, origin: &Origin, outcome: &Outcome) {
        self.metrics.delivery(&delivery.event.app_id, outcome);
        if matches!(outcome, Outcome::Sent { .. }) {
            let began = origin.published_at().or(delivery.event.occurred_at).unwrap_or(origin.first_seen);
            // Clocks differ; nothing arrives before it was published.
            let took = clock::now().duration_since(began).try_into().unwrap_or_default();
            self.metrics.end_to_end(took);
        }
    }
}

/// The replay has done its work with the claim; from here on it is an ordinary delivery.
fn next_turn(delivery: &Delivery, progress: Progress) -> (Progress, i32) {
    let turn = delivery.progress.turn.saturating_add(1);
    (Progress { turn, replay: false, ..progress }, turn)
}

fn from_now(wait: Duration) -> Timestamp {
    clock::now().saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// A statement that PostgreSQL refuses needs a person; asking more often only fills its log.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

fn request(
    delivery: &Delivery,
    origin: &Origin,
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
        trace_id: origin.trace_id.clone(),
        turn: delivery.progress.turn,
    }
}

/// Only WeChat's word changes consent: a yes uses a counted send, a refusal closes it.
fn consent_change(claim: &Claim, attempted: &Attempted) -> ConsentChange {
    let remaining = claim.row.consent.and_then(|consent| consent.remaining);
    let is_answer = attempted.facts.errcode.is_some();
    match attempted.outcome {
        Outcome::Sent { .. } if remaining.is_some() => ConsentChange::Used,
        Outcome::Skipped(SkipReason::BadOpenid) if is_answer => ConsentChange::Closed(Closing::BadOpenid),
        Outcome::Skipped(SkipReason::Rejected | SkipReason::RefusedAfterUnknown) if is_answer => {
            ConsentChange::Closed(Closing::of_refusal(remaining, claim.row.unknowns))
        }
        _ => ConsentChange::Nothing,
    }
}

fn obituary(delivery: &Delivery, claim: &Claim, attempted: &Attempted, reason: DeadReason) -> Obituary {
    Obituary {
        letter: letter::of_delivery(&delivery.event, &delivery.recipient, delivery.progress.turn),
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

//! Asking the ledger for the attempt.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::attempt::Attempted;
use super::envelope::Envelope;
use super::{Left, Pipeline};
use crate::clock;
use crate::db::ledger::claim;
use crate::domain::consent::User;
use crate::domain::delivery::Delivery;
use crate::domain::outcome::{DeadReason, Outcome, SkipReason};
use crate::domain::protocol::{DeliveryMessage, Meeting};

/// What came of asking.
pub(super) enum Claimed {
    Granted(Claim),
    /// Finished, an echo, somebody else's for now, or over: what had to be done about the message is done.
    Elsewhere,
}

/// A claim in hand.
pub(super) struct Claim {
    pub(super) row: claim::Claim,
    /// The lease's end by our monotonic clock, counted from before the question: never later than the ledger's.
    lease_ends: Instant,
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

impl Pipeline {
    /// Claims the delivery, or does what the protocol says instead.
    pub(super) async fn claim(
        self: &Arc<Self>,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
    ) -> Result<Claimed, Left> {
        let lease_ends = Instant::now() + self.settings.lease.lasts;
        let request = self.claim_request(delivery, envelope);
        let answer = match self.ledger.claim(&request).await {
            Ok(answer) => answer,
            Err(refused) => {
                return self
                    .dead_letter_refused(delivery, envelope, &refused)
                    .await
                    .map(|()| Claimed::Elsewhere);
            }
        };
        if answer.reused {
            let reason = DeadReason::EventIdReused;
            return self
                .dead_letter_event(&delivery.event, envelope, reason)
                .await
                .map(|()| Claimed::Elsewhere);
        }
        let claim = answer.claim.map(|row| Claim { row, lease_ends });
        match (answer.meeting, claim) {
            (Meeting::TakeOverAndGiveUp | Meeting::GiveUp, Some(claim)) => {
                self.metrics.unknown(&delivery.event.app_id);
                let attempted = Attempted::without_request(Outcome::Dead(DeadReason::UnknownOutcome));
                Box::pin(self.settle(delivery, envelope, &claim, attempted))
                    .await
                    .map(|()| Claimed::Elsewhere)
            }
            (meeting, Some(claim)) => {
                if meeting == Meeting::TakeOver {
                    self.metrics.unknown(&delivery.event.app_id);
                }
                self.look_again(delivery, envelope, claim).await
            }
            (Meeting::Busy, None) => {
                let wait = self.settings.ladder.first();
                self.defer_unchanged(delivery, envelope, wait).await.map(|()| Claimed::Elsewhere)
            }
            (_finished_or_echo, None) => Ok(Claimed::Elsewhere),
        }
    }

    fn claim_request(&self, delivery: &Delivery, envelope: &Envelope) -> claim::Request {
        claim::Request {
            event: Arc::clone(&delivery.event),
            recipient: delivery.recipient.clone(),
            delivery_message: DeliveryMessage {
                epoch: delivery.progress.epoch,
                replay: delivery.progress.replay,
                claim: Uuid::new_v4(),
                on_unknown: delivery.event.on_unknown(self.settings.on_unknown),
            },
            trace_id: envelope.trace_id.clone(),
        }
    }

    /// What changed while the delivery waited: consent, freshness, the app, and a stop.
    async fn look_again(
        self: &Arc<Self>,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
        claim: Claim,
    ) -> Result<Claimed, Left> {
        let instead = match self.reason_to_skip(delivery, &claim.row).await {
            Some(reason) => Outcome::Skipped(reason),
            None if self.stops.soft.is_cancelled() => Outcome::Uncharged,
            None => return Ok(Claimed::Granted(claim)),
        };
        let attempted = Attempted::without_request(instead);
        Box::pin(self.settle(delivery, envelope, &claim, attempted)).await.map(|()| Claimed::Elsewhere)
    }

    async fn reason_to_skip(&self, delivery: &Delivery, row: &claim::Claim) -> Option<SkipReason> {
        if delivery.is_expired(clock::now()) {
            return Some(SkipReason::Expired);
        }
        if self.app_of(&delivery.event).await.is_ok_and(|app| !app.app().active) {
            return Some(SkipReason::AppDisabled);
        }
        let user = row.consent.map(|consent| User { active: !row.is_disabled, consent });
        let refusal = delivery.event.kind.verdict(user).err()?;
        // An attempt nobody knows the end of may have used the last send: then this is not the user's refusal.
        let may_be_ours = matches!(refusal, SkipReason::QuotaUsed | SkipReason::Rejected);
        Some(if row.unknowns > 0 && may_be_ours { SkipReason::RefusedAfterUnknown } else { refusal })
    }
}

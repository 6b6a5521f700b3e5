//! One delivery, step by step.

use std::sync::Arc;

use jiff::Timestamp;

use super::attempt::Attempted;
use super::claim::Claimed;
use super::envelope::Envelope;
use super::ready::{NotReady, Ready};
use super::{Left, Pipeline};
use crate::admission::Rank;
use crate::clock;
use crate::db::ledger::record;
use crate::domain::delivery::{Delivery, Progress};
use crate::domain::outcome::{DeadReason, Outcome};
use crate::domain::recipient::Recipient;
use crate::failpoint::crash_point;

/// How far a delivery came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Brought {
    /// Sent, skipped, deferred, dead_lettered, or somebody else's.
    AsFarAsItGoes,
    /// It waited long enough, and nothing was done about it.
    Held,
    /// Its app is paused, or takes long, and nothing was done about it.
    Paused,
    /// Its template is paused until then, and nothing was done about it.
    TemplatePaused(Timestamp),
}

impl Pipeline {
    /// Brings a delivery whose message came back from the ladder, a lane or an operator.
    pub(super) async fn bring_delivery_message(
        self: &Arc<Self>,
        delivery: Delivery,
        envelope: &Arc<Envelope>,
    ) -> Result<(), Left> {
        match self.app_of(&delivery.event).await {
            Ok(app) if self.belongs_in_lane(&app, envelope) => self.move_to_lane(&app, envelope).await,
            Ok(_) => self.or_dead_letter(self.bring(&delivery, envelope), &delivery, envelope, ()).await,
            Err(reason) => self.give_up(&delivery, envelope, reason).await,
        }
    }

    /// A delivery whose app has gone, or now belongs to another company: nothing to wait for, but a row to close.
    pub(super) async fn give_up(
        self: &Arc<Self>,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
        reason: DeadReason,
    ) -> Result<(), Left> {
        match self.claim(delivery, envelope).await? {
            Claimed::Granted(claim) => {
                let attempted = Attempted::without_request(Outcome::Dead(reason));
                self.settle(delivery, envelope, &claim, attempted).await
            }
            Claimed::Elsewhere => Ok(()),
        }
    }

    /// Brings one delivery as far as it goes now: sent, skipped, deferred, or dead_lettered.
    pub(super) async fn bring(
        self: &Arc<Self>,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
    ) -> Result<(), Left> {
        if let Some(due) = delivery.due_later(clock::now()) {
            return self.wait_until(delivery, envelope, due).await;
        }
        match self.bring_if_ready(delivery, envelope, envelope.rank).await? {
            Brought::AsFarAsItGoes => Ok(()),
            Brought::Held => self.defer_unchanged(delivery, envelope, self.settings.ladder.first()).await,
            Brought::Paused => self.defer_to_lane(delivery, envelope, delivery.progress).await,
            Brought::TemplatePaused(due) => self.wait_until(delivery, envelope, due).await,
        }
    }

    /// The same for a delivery that is due, but one that is held or paused stays with the caller: he must have another
    /// delivery message for it.
    pub(super) async fn bring_if_ready(
        self: &Arc<Self>,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
        rank: Rank,
    ) -> Result<Brought, Left> {
        let Ready { lock, go } = match self.make_ready(delivery, rank).await {
            Ok(ready) => ready,
            Err(NotReady::Stopping) => return Err(Left::Unstarted),
            Err(NotReady::NoOpenid) => return Ok(Brought::AsFarAsItGoes),
            Err(NotReady::Held) => return Ok(Brought::Held),
            Err(NotReady::Paused) => return Ok(Brought::Paused),
            Err(NotReady::TemplatePaused(due)) => return Ok(Brought::TemplatePaused(due)),
        };
        crash_point("ready");
        let claim = match self.claim(delivery, envelope).await? {
            Claimed::Granted(claim) => claim,
            Claimed::Elsewhere => return Ok(Brought::AsFarAsItGoes),
        };
        crash_point("claimed");
        let attempted = self.attempt(delivery, &claim, go).await;
        crash_point("answered");
        let settled = self.settle(delivery, envelope, &claim, attempted).await;
        drop(lock);
        settled.map(|()| Brought::AsFarAsItGoes)
    }

    /// A delivery for later: its row says so, and its message goes round the ladder until then. Charges nothing.
    async fn wait_until(
        &self,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
        due: Timestamp,
    ) -> Result<(), Left> {
        if delivery.progress.epoch == 0 && !matches!(delivery.recipient, Recipient::Nobody) {
            let planned = record::Request {
                event: Arc::clone(&delivery.event),
                recipient: delivery.recipient.clone(),
                what: record::What::Planned(due),
                trace_id: envelope.trace_id.clone(),
            };
            if let Err(refused) = self.ledger.record(&planned).await {
                return self.dead_letter_refused(delivery, envelope, &refused).await;
            }
        }
        crash_point("due_recorded");
        let wait = due.duration_since(clock::now()).unsigned_abs();
        let progress = Progress { due: Some(due), ..delivery.progress };
        self.publish_delivery_message(delivery, envelope, progress, self.settings.ladder.towards(wait)).await
    }
}

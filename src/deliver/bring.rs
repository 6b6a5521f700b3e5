//! One delivery, step by step.

use std::sync::Arc;

use jiff::Timestamp;

use super::attempt::Attempted;
use super::claim::Claimed;
use super::origin::Origin;
use super::ready::{NotReady, Ready};
use super::slots::Rank;
use super::{Left, Pipeline};
use crate::clock;
use crate::db::record;
use crate::domain::delivery::{Delivery, Progress};
use crate::domain::outcome::{DeadReason, Outcome};
use crate::domain::recipient::Recipient;
use crate::failpoint::crash_point;

/// How far a delivery came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Brought {
    /// Sent, skipped, handed on, buried, or somebody else's.
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
    pub(super) async fn bring_carrier(
        self: &Arc<Self>,
        delivery: Delivery,
        origin: &Arc<Origin>,
    ) -> Result<(), Left> {
        match self.app_of(&delivery.event).await {
            Ok(app) if self.belongs_in_lane(&app, origin) => self.move_to_lane(&app, origin).await,
            Ok(_) => self.or_bury(self.bring(&delivery, origin), &delivery, origin, ()).await,
            Err(reason) => self.give_up(&delivery, origin, reason).await,
        }
    }

    /// A delivery whose app has gone, or now belongs to another company: nothing to wait for, but a row to close.
    pub(super) async fn give_up(
        self: &Arc<Self>,
        delivery: &Delivery,
        origin: &Arc<Origin>,
        reason: DeadReason,
    ) -> Result<(), Left> {
        match self.claim(delivery, origin).await? {
            Claimed::Granted(claim) => {
                let attempted = Attempted::without_request(Outcome::Dead(reason));
                self.settle(delivery, origin, &claim, attempted).await
            }
            Claimed::Elsewhere => Ok(()),
        }
    }

    /// Brings one delivery as far as it goes now: sent, skipped, handed on, or buried.
    pub(super) async fn bring(
        self: &Arc<Self>,
        delivery: &Delivery,
        origin: &Arc<Origin>,
    ) -> Result<(), Left> {
        if let Some(due) = delivery.due_later(clock::now()) {
            return self.wait_until(delivery, origin, due).await;
        }
        match self.bring_if_ready(delivery, origin, origin.rank).await? {
            Brought::AsFarAsItGoes => Ok(()),
            Brought::Held => self.hand_on_unchanged(delivery, origin, self.settings.ladder.first()).await,
            Brought::Paused => self.hand_to_lane(delivery, origin, delivery.progress).await,
            Brought::TemplatePaused(due) => self.wait_until(delivery, origin, due).await,
        }
    }

    /// The same for a delivery that is due, but one that is held or paused stays with the caller: he must have another
    /// carrier for it.
    pub(super) async fn bring_if_ready(
        self: &Arc<Self>,
        delivery: &Delivery,
        origin: &Arc<Origin>,
        rank: Rank,
    ) -> Result<Brought, Left> {
        let Ready { turn, go } = match self.make_ready(delivery, rank).await {
            Ok(ready) => ready,
            Err(NotReady::Stopping) => return Err(Left::Unstarted),
            Err(NotReady::NoOpenid) => return Ok(Brought::AsFarAsItGoes),
            Err(NotReady::Held) => return Ok(Brought::Held),
            Err(NotReady::Paused) => return Ok(Brought::Paused),
            Err(NotReady::TemplatePaused(due)) => return Ok(Brought::TemplatePaused(due)),
        };
        crash_point("ready");
        let claim = match self.claim(delivery, origin).await? {
            Claimed::Granted(claim) => claim,
            Claimed::Elsewhere => return Ok(Brought::AsFarAsItGoes),
        };
        crash_point("claimed");
        let attempted = self.attempt(delivery, &claim, go).await;
        crash_point("answered");
        let settled = self.settle(delivery, origin, &claim, attempted).await;
        drop(turn);
        settled.map(|()| Brought::AsFarAsItGoes)
    }

    /// A delivery for later: its row says so, and its message goes round the ladder until then. Charges nothing.
    async fn wait_until(
        &self,
        delivery: &Delivery,
        origin: &Arc<Origin>,
        due: Timestamp,
    ) -> Result<(), Left> {
        if delivery.progress.turn == 0 && !matches!(delivery.recipient, Recipient::Nobody) {
            let planned = record::Request {
                event: Arc::clone(&delivery.event),
                recipient: delivery.recipient.clone(),
                what: record::What::Planned(due),
                trace_id: origin.trace_id.clone(),
            };
            if let Err(refused) = self.ledger.record(&planned).await {
                return self.bury_refused(delivery, origin, &refused).await;
            }
        }
        crash_point("due_recorded");
        let wait = due.duration_since(clock::now()).unsigned_abs();
        let progress = Progress { due: Some(due), ..delivery.progress };
        self.publish_carrier(delivery, origin, progress, self.settings.ladder.towards(wait)).await
    }
}

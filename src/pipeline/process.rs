//! One delivery, step by step.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempted, Attempter};
use super::claim::{Claim, Claimed, Claimer};
use super::dead_letterer::DeadLetterer;
use super::defer::Deferrer;
use super::job::{Disposition, Job, Unsettled, Wait};
use super::ready::{Admitter, Ready};
use super::settle::Settler;
use crate::admission::Rank;
use crate::clock;
use crate::domain::consent::User;
use crate::domain::outcome::{DeadReason, Outcome, SkipReason};
use crate::failpoint::crash_point;

/// Brings deliveries to their ends.
pub(super) struct Processor {
    pub(super) admitter: Admitter,
    pub(super) claimer: Claimer,
    pub(super) attempter: Attempter,
    pub(super) settler: Settler,
    pub(super) deferrer: Deferrer,
    pub(super) dead_letterer: DeadLetterer,
    pub(super) soft_stop: CancellationToken,
}

impl Processor {
    /// Brings one delivery as far as it goes now: sent, skipped, or dead-lettered. One that must wait stays with the caller, who
    /// has its message, or another that brings it, to defer.
    pub(super) async fn process(&self, job: &Job, rank: Rank) -> Disposition {
        let app = match &job.app {
            Ok(app) => app,
            Err(reason) => return self.give_up(job, *reason).await,
        };
        if let Some(due) = job.delivery.due_later(clock::now()) {
            return Err(Unsettled::ToDefer(Wait::Until(due)));
        }
        // Nobody to send to: such rows are never planned as deliveries.
        let Some(openid) = job.delivery.recipient.openid() else { return Ok(()) };
        let Ready { lock, go } = self.admitter.admit(job, app, openid, rank).await?;
        crash_point("ready");
        let Some(claim) = self.claim(job).await? else { return Ok(()) };
        crash_point("claimed");
        // A panic in it ends this delivery alone, and is settled like any other end.
        let attempted = AssertUnwindSafe(self.attempter.attempt(job, &claim, go)).catch_unwind().await;
        let attempted = attempted.unwrap_or_else(|_panic| Attempted::panicked());
        crash_point("answered");
        let disposition = self.settler.settle(job, &claim, attempted).await;
        drop(lock);
        disposition
    }

    /// A delivery whose app has gone, or now belongs to another company: nothing to wait for, but a row to close.
    async fn give_up(&self, job: &Job, reason: DeadReason) -> Disposition {
        match self.claim(job).await? {
            Some(claim) => self.settle_without_request(job, &claim, Outcome::Dead(reason)).await,
            None => Ok(()),
        }
    }

    /// Claims the delivery; `None` where it was not to be attempted, and what had to be done instead is done.
    async fn claim(&self, job: &Job) -> Disposition<Option<Claim>> {
        let claimed = match self.claimer.claim(job).await {
            Ok(claimed) => claimed,
            Err(refused) => return self.dead_letterer.refused(job, &refused).await.map(|()| None),
        };
        let instead = match claimed {
            Claimed::Granted(claim) => match self.outcome_without_request(job, &claim) {
                None => return Ok(Some(claim)),
                Some(outcome) => self.settle_without_request(job, &claim, outcome).await,
            },
            Claimed::ToGiveUp(claim) => {
                let outcome = Outcome::Dead(DeadReason::UnknownOutcome);
                self.settle_without_request(job, &claim, outcome).await
            }
            Claimed::Busy => self.deferrer.delivery(job, Wait::Briefly).await,
            Claimed::Reused => {
                let (event, reason) = (&job.delivery.event, DeadReason::EventIdReused);
                self.dead_letterer.event(event, &job.envelope, reason).await
            }
            Claimed::Over => Ok(()),
        };
        instead.map(|()| None)
    }

    async fn settle_without_request(&self, job: &Job, claim: &Claim, outcome: Outcome) -> Disposition {
        // Boxed: most deliveries settle after their attempt, and would carry the room for this one along.
        Box::pin(self.settler.settle(job, claim, Attempted::without_request(outcome))).await
    }

    /// What changed while the delivery waited, so that it is not attempted: freshness, the app, consent, or a stop.
    fn outcome_without_request(&self, job: &Job, claim: &Claim) -> Option<Outcome> {
        match reason_to_skip(job, claim) {
            Some(reason) => Some(Outcome::Skipped(reason)),
            None => self.soft_stop.is_cancelled().then_some(Outcome::Uncharged),
        }
    }
}

fn reason_to_skip(job: &Job, claim: &Claim) -> Option<SkipReason> {
    if job.delivery.is_expired(clock::now()) {
        return Some(SkipReason::Expired);
    }
    if job.app.as_ref().is_ok_and(|app| !app.is_gone() && !app.settings().active) {
        return Some(SkipReason::AppDisabled);
    }
    let user = claim.row.consent.map(|consent| User { active: !claim.row.is_disabled, consent });
    let refusal = job.delivery.event.kind.verdict(user).err()?;
    // An attempt nobody knows the end of may have used the last send: then this is not the user's refusal.
    let may_be_ours = matches!(refusal, SkipReason::QuotaUsed | SkipReason::Rejected);
    Some(if claim.row.unknowns > 0 && may_be_ours { SkipReason::RefusedAfterUnknown } else { refusal })
}

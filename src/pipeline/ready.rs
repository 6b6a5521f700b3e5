//! All the waiting a delivery does, before its claim: lock, token, its app's share, a closed breaker. Bounded, and uncharged.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::app_runtime::AppRuntime;
use super::job::{Disposition, Job, Unsettled, Wait};
use crate::admission::{LONG_WAIT, Rank, RecipientLock, RecipientLocks, Share, UsedUp};
use crate::clock;
use crate::domain::delivery::Delivery;
use crate::domain::ids::Openid;
use crate::health::{Breakers, Ends, Pass, Probe, TemplateProbe};

/// Waits until a delivery may go.
pub(super) struct Admitter {
    pub(super) breakers: Breakers,
    pub(super) recipient_locks: RecipientLocks,
    /// How long a delivery may wait in our hands.
    pub(super) max_hold: Duration,
    pub(super) soft_stop: CancellationToken,
}

/// A delivery that may be claimed now.
pub(super) struct Ready<'a> {
    /// Held until the delivery is settled: the next one to this user must see what became of this one's consent.
    pub(super) lock: RecipientLock,
    pub(super) go: Go<'a>,
}

/// What the attempt itself needs; given back with WeChat's answer.
pub(super) struct Go<'a> {
    pub(super) app: &'a AppRuntime,
    pub(super) openid: &'a Openid,
    /// Present when this delivery tries whether a paused app works again.
    pub(super) probe: Option<Probe>,
    /// The same for a paused template.
    _template_probe: Option<TemplateProbe>,
    pub(super) share: Share,
}

impl Admitter {
    /// Waits for everything an attempt needs. Takes the scarce things last: the share is what other deliveries wait for.
    pub(super) async fn admit<'a>(
        &self,
        job: &'a Job,
        app: &'a AppRuntime,
        openid: &'a Openid,
        rank: Rank,
    ) -> Disposition<Ready<'a>> {
        let patience = match rank {
            Rank::Fresh => LONG_WAIT.min(self.max_hold),
            Rank::Lane => self.max_hold,
        };
        let waiting = tokio::time::timeout(patience, self.wait_for_all(&job.delivery, app, openid, rank));
        let ready = tokio::select! {
            biased;
            () = self.soft_stop.cancelled() => return Err(Unsettled::Released),
            ready = waiting => ready.unwrap_or_else(|_| Err(waited_in_vain(app, rank))),
        };
        ready.map_err(Unsettled::ToDefer)
    }

    async fn wait_for_all<'a>(
        &self,
        delivery: &Delivery,
        app: &'a AppRuntime,
        openid: &'a Openid,
        rank: Rank,
    ) -> Result<Ready<'a>, Wait> {
        self.breakers.informed().await;
        // A paused template is found out before anything is waited for.
        match app.breaker.template_paused_until(&delivery.event.template_id) {
            Some(due) if needs_template(delivery) => return Err(Wait::Until(due)),
            _ => {}
        }
        let lock = self.recipient_locks.take(&app.app_id, openid).await;
        if app.is_gone() || !app.may_be_used_by(&delivery.event.company_no) {
            // That changed while it waited; it is found out when its message comes again.
            return Err(Wait::Briefly);
        }
        if app.settings().active {
            token_or_pause(app).await?;
        }
        let share = app.limits.take_share(&app.settings(), rank).await;
        let share = share.map_err(|used_up| pause_until_midnight(app, used_up))?;
        // Asked last, with everything else in hand: a probe that waits would keep the others out. The template before the app,
        // whose probe is worth more.
        let template_probe = if needs_template(delivery) {
            app.breaker.template_pass(&delivery.event.template_id).map_err(Wait::Until)?
        } else {
            None
        };
        let probe = match app.breaker.pass() {
            Pass::Closed => None,
            Pass::Probing(probe) => Some(probe),
            Pass::Open => return Err(Wait::InLane),
        };
        Ok(Ready { lock, go: Go { app, openid, probe, _template_probe: template_probe, share } })
    }
}

/// What is too old to be sent needs no template to be skipped.
fn needs_template(delivery: &Delivery) -> bool {
    !delivery.is_expired(clock::now())
}

/// Waits for the token; not where the refresher has said that there will be none.
async fn token_or_pause(app: &AppRuntime) -> Result<(), Wait> {
    // Nearly always it is there, and followers of our own would cost locks that all jobs of the app share.
    if app.token().is_some() {
        return Ok(());
    }
    let mut state = app.breaker.watch();
    tokio::select! {
        biased;
        is_there = app.token_ready() => if is_there { Ok(()) } else { Err(Wait::Briefly) },
        _ = state.wait_for(|state| matches!(state.ends(), Some(Ends::ByToken | Ends::ByHand))) => Err(Wait::InLane),
    }
}

fn pause_until_midnight(app: &AppRuntime, used_up: UsedUp) -> Wait {
    let wait = used_up.until.saturating_duration_since(Instant::now());
    app.breaker.quota_used_up(clock::now().saturating_add(wait).unwrap_or(Timestamp::MAX));
    Wait::InLane
}

/// What becomes of a delivery that has waited so long. Those behind it need not find out for themselves.
fn waited_in_vain(app: &AppRuntime, rank: Rank) -> Wait {
    match rank {
        Rank::Fresh => {
            app.limits.stuck();
            Wait::InLane
        }
        Rank::Lane => Wait::Briefly,
    }
}

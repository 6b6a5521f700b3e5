//! All the waiting a delivery does, before its claim: lock, token, its app's share, an open app. Bounded, and uncharged.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Pipeline;
use super::apps::AppWatch;
use super::limits::Share;
use crate::admission::Rank;
use crate::admission::RecipientLock;
use crate::clock;
use crate::domain::delivery::Delivery;
use crate::health::{Breaker, Ends, Pass, Probe, TemplateProbe};

/// How often an idle loop shows that it lives.
pub(super) const BEAT_EVERY: Duration = Duration::from_secs(1);

/// A delivery that may be claimed now.
pub(super) struct Ready {
    /// Held until the delivery is settled: the next one to this user must see what became of this one's consent.
    pub(super) lock: RecipientLock,
    pub(super) go: Go,
}

/// What the attempt itself needs; given back with WeChat's answer.
pub(super) struct Go {
    pub(super) app: AppWatch,
    /// Present when this delivery tries whether a paused app works again.
    pub(super) probe: Option<Probe>,
    /// The same for a paused template.
    _template_probe: Option<TemplateProbe>,
    pub(super) share: Share,
}

/// Why a delivery cannot be attempted now.
pub(super) enum NotReady {
    /// A soft stop: give it back.
    Stopping,
    /// It leads to nobody; there is nothing to send (such rows are never planned as deliveries).
    NoOpenid,
    /// Waited long enough: defer it, to be back after the ladder's first step.
    Held,
    /// The app is paused, or a fresh delivery would wait long for it: to its lane.
    Paused,
    /// Its template is paused: round the ladder until then.
    TemplatePaused(Timestamp),
}

impl Pipeline {
    /// Waits for everything an attempt needs. Takes the scarce things last: the share is what other deliveries wait for.
    pub(super) async fn make_ready(&self, delivery: &Delivery, rank: Rank) -> Result<Ready, NotReady> {
        let waiting = tokio::time::timeout(self.patience(rank), self.wait_for_all(delivery, rank));
        tokio::select! {
            biased;
            () = self.stops.soft.cancelled() => Err(NotReady::Stopping),
            ready = waiting => ready.unwrap_or_else(|_| Err(self.waited_in_vain(&delivery.event.app_id, rank))),
        }
    }

    async fn wait_for_all(&self, delivery: &Delivery, rank: Rank) -> Result<Ready, NotReady> {
        let app_id = &delivery.event.app_id;
        let openid = delivery.recipient.openid().ok_or(NotReady::NoOpenid)?;
        let breaker = self.breakers.of(app_id);
        self.breakers.informed().await;
        self.template_due(delivery, &breaker)?;
        let lock = self.recipient_locks.take(app_id, openid).await;
        let Ok(mut app) = self.app_of(&delivery.event).await else { return Err(NotReady::Held) };
        if app.app().active {
            self.token_or_pause(&mut app, &breaker).await?;
        }
        let share = self.take_share(&app.app(), rank).await?;
        // Asked last, with everything else in hand: a probe that waits would keep the others out. The template before the app,
        // whose probe is worth more.
        let template_probe = self.template_pass(delivery, &breaker)?;
        let probe = match breaker.pass() {
            Pass::Closed => None,
            Pass::Probing(probe) => Some(probe),
            Pass::Open => return Err(NotReady::Paused),
        };
        Ok(Ready { lock, go: Go { app, probe, _template_probe: template_probe, share } })
    }

    /// A paused template is found out before anything is waited for. (Who is too old to be sent needs no template to be skipped.)
    fn template_due(&self, delivery: &Delivery, breaker: &Breaker) -> Result<(), NotReady> {
        match breaker.template_paused_until(&delivery.event.template_id) {
            Some(due) if !delivery.is_expired(clock::now()) => Err(NotReady::TemplatePaused(due)),
            _ => Ok(()),
        }
    }

    fn template_pass(
        &self,
        delivery: &Delivery,
        breaker: &Arc<Breaker>,
    ) -> Result<Option<TemplateProbe>, NotReady> {
        if delivery.is_expired(clock::now()) {
            return Ok(None);
        }
        breaker.template_pass(&delivery.event.template_id).map_err(NotReady::TemplatePaused)
    }

    /// Waits for the token; not where the refresher has said that there will be none.
    async fn token_or_pause(&self, app: &mut AppWatch, breaker: &Breaker) -> Result<(), NotReady> {
        let mut state = breaker.watch();
        tokio::select! {
            biased;
            is_there = app.token_ready() => if is_there { Ok(()) } else { Err(NotReady::Held) },
            _ = state.wait_for(|state| matches!(state.ends(), Some(Ends::ByToken | Ends::ByHand))) => {
                Err(NotReady::Paused)
            }
        }
    }
}

//! All the waiting a delivery does, before its claim: turn, open app, token, slot. Bounded, and uncharged.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::Pipeline;
use super::apps::AppWatch;
use super::gates::{Pass, Probe};
use super::turns::Turn;
use crate::domain::delivery::Delivery;

/// How often an idle loop shows that it lives.
pub(super) const BEAT_EVERY: Duration = Duration::from_secs(1);

/// A delivery that may be claimed now.
pub(super) struct Ready {
    /// Held until the delivery is settled: the next one to this user must see what became of this one's consent.
    pub(super) turn: Turn,
    pub(super) go: Go,
}

/// What the attempt itself needs; given back with WeChat's answer.
pub(super) struct Go {
    pub(super) app: AppWatch,
    /// Present when this delivery tries whether a paused app works again.
    pub(super) probe: Option<Probe>,
    _slot: OwnedSemaphorePermit,
}

/// Why a delivery cannot be attempted now.
pub(super) enum NotReady {
    /// A soft stop: give it back.
    Stopping,
    /// It leads to nobody; there is nothing to send (such rows are never planned as deliveries).
    NoOpenid,
    /// Waited long enough, or the app is paused: hand it on, to be back after about this long.
    Held { wait: Duration },
}

impl Pipeline {
    /// Waits for everything an attempt needs. Takes the scarce things last: the slot is what other deliveries wait for.
    pub(super) async fn make_ready(&self, delivery: &Delivery) -> Result<Ready, NotReady> {
        let waiting = tokio::time::timeout(self.settings.max_hold, self.wait_for_all(delivery));
        tokio::select! {
            biased;
            () = self.stops.soft.cancelled() => Err(NotReady::Stopping),
            ready = waiting => ready.unwrap_or_else(|_| Err(NotReady::Held { wait: self.settings.ladder.first() })),
        }
    }

    async fn wait_for_all(&self, delivery: &Delivery) -> Result<Ready, NotReady> {
        let app_id = &delivery.event.app_id;
        let openid = delivery.recipient.openid().ok_or(NotReady::NoOpenid)?;
        let turn = self.turns.take(app_id, openid).await;
        let held = NotReady::Held { wait: self.settings.ladder.first() };
        let Ok(mut app) = self.app_of(&delivery.event).await else { return Err(held) };
        if app.app().active && !app.token_ready().await {
            return Err(held);
        }
        let probe = match self.gates.pass(app_id) {
            Pass::Open => None,
            Pass::Probe(probe) => Some(probe),
            Pass::Paused { wait } => return Err(NotReady::Held { wait }),
        };
        // The semaphore is never closed; if it were, stopping would be the truth.
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| NotReady::Stopping)?;
        Ok(Ready { turn, go: Go { app, probe, _slot: slot } })
    }
}

//! What an app may use at once, per second and per day, as one delivery meets it: its share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Pipeline;
use super::quota::{NoneInHand, Permit, UsedUp};
use super::rates::BURST;
use super::ready::NotReady;
use super::slots::{Rank, Slot};
use crate::clock;
use crate::db::registry::live_apps::App;
use crate::domain::ids::AppId;
use crate::lifecycle::Beat;

/// A fresh delivery that waits longer, for its app's share or anything else of its app's, waits in the app's lane instead,
/// where it holds up nobody.
const LONG_WAIT: Duration = Duration::from_millis(500);
/// Between two looks at who shares the rates, and at quotas that are used up. Longer delays what an operator has raised;
/// shorter asks broker and database for news that they seldom have.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// One delivery's part of what its app may use. Dropping it gives the slot back, and the day's permit if no request went out.
pub(super) struct Share {
    quota: Option<Permit>,
    /// A request was made with it.
    is_begun: bool,
    _slot: Slot,
}

impl Pipeline {
    /// Would an incoming of this app have to wait long here, because the app has its share or is at its rate?
    pub(super) fn is_over_share(&self, app: &App) -> bool {
        self.slots.expected_wait(&app.app_id) > LONG_WAIT
            || self.rates.expected_wait(&app.app_id, app.rate_per_second) > LONG_WAIT
    }

    /// How long a delivery may wait in our hands.
    pub(super) fn patience(&self, rank: Rank) -> Duration {
        match rank {
            Rank::Fresh => LONG_WAIT.min(self.settings.max_hold),
            Rank::Lane => self.settings.max_hold,
        }
    }

    /// What becomes of a delivery that has waited so long. Those behind it need not find out for themselves.
    pub(super) fn waited_in_vain(&self, app_id: &AppId, rank: Rank) -> NotReady {
        match rank {
            Rank::Fresh => {
                self.slots.stuck(app_id);
                NotReady::Paused
            }
            Rank::Lane => NotReady::Held,
        }
    }

    /// Waits for a delivery's share.
    pub(super) async fn take_share(&self, app: &App, rank: Rank) -> Result<Share, NotReady> {
        let slot = self.permit_and_slot(app, rank).await;
        // Last, so that next to nothing lies between the permit and its day.
        let quota = self.quotas.take(&app.app_id, app.daily_quota.filter(|_| app.active)).await;
        let quota = quota.map_err(|used_up| self.pause_until_midnight(&app.app_id, used_up))?;
        Ok(Share { quota, is_begun: false, _slot: slot })
    }

    /// A slot is not held while waiting for the rate. A permit that had to wait for a slot is void: many of them would go out
    /// in one burst when the slots come back.
    async fn permit_and_slot(&self, app: &App, rank: Rank) -> Slot {
        let rate = app.rate_per_second.filter(|_| app.active);
        loop {
            self.rates.take(&app.app_id, rate, rank).await;
            let permitted = Instant::now();
            let slot = self.slots.take(&app.app_id, rank).await;
            if rate.is_none() || permitted.elapsed() <= BURST {
                return slot;
            }
        }
    }

    fn pause_until_midnight(&self, app_id: &AppId, used_up: UsedUp) -> NotReady {
        let wait = used_up.until.saturating_duration_since(Instant::now());
        self.breakers
            .of(app_id)
            .quota_used_up(clock::now().saturating_add(wait).unwrap_or(jiff::Timestamp::MAX));
        NotReady::Paused
    }

    /// Counts a request that is about to go out. False: the day's number does not allow another one at once.
    pub(super) fn count_request(&self, app: &App, share: &mut Share) -> bool {
        if std::mem::replace(&mut share.is_begun, true) {
            self.rates.charge(&app.app_id);
            match self.quotas.take_now(&app.app_id, app.daily_quota) {
                Ok(permit) => share.quota = permit,
                Err(NoneInHand) => return false,
            }
        }
        share.quota.iter_mut().for_each(Permit::spend);
        true
    }

    /// How many deliveries of an app's lane may be in hand; fewer where its rate would let them wait in vain.
    pub(super) fn lane_in_hand(&self, app_id: &AppId, most: usize) -> usize {
        let rate = self.tokens.watch(app_id).and_then(|page| page.borrow().app.rate_per_second);
        self.rates.most_in_hand(rate, self.settings.max_hold).min(most)
    }

    /// Follows who shares the rates, and opens apps whose day has something left again. Runs for ever; `attached` says when
    /// our own consumer of fresh events can be counted.
    pub async fn follow_limits(self: Arc<Self>, mut attached: watch::Receiver<bool>, beat: Arc<Beat>) {
        // An end of the news is the process's own; nothing limited matters then.
        while !*attached.borrow_and_update() {
            beat.beat();
            let _ = tokio::time::timeout(LOOK_EVERY, attached.changed()).await;
        }
        let mut before = None;
        loop {
            beat.beat();
            match self.broker.consumers(&self.topology.events()).await {
                Ok(now) => {
                    sharers(before, now).into_iter().for_each(|processes| self.rates.shared_by(processes));
                    before = Some(now);
                }
                Err(error) => tracing::debug!(%error, "cannot count the processes that share the rates"),
            }
            self.look_at_quotas().await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look_at_quotas(&self) {
        for app_id in self.quotas.used_up() {
            let Some(page) = self.tokens.watch(&app_id) else { continue };
            let quota = page.borrow().app.daily_quota;
            match self.quotas.look_again(&app_id, quota).await {
                Ok(true) => self.breakers.of(&app_id).quota_back(),
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(%error, %app_id, "cannot check whether the quota is available again")
                }
            }
        }
    }

    /// What is left of the days' quotas goes back. Call it when nothing is at work any more.
    pub(super) async fn put_quotas_back(&self) {
        self.quotas.put_back_all().await;
    }
}

impl Share {
    /// No connection came about, so the request never reached WeChat.
    pub(super) fn not_connected(&mut self) {
        self.quota.iter_mut().for_each(Permit::unspend);
    }
}

/// How many processes share the rates, by two counts of consumers in a row; `None` before anything may go out.
fn sharers(before: Option<u32>, now: u32) -> Option<u32> {
    match before {
        // The others count us with their next look; until then the whole rate is theirs.
        None if now > 1 => None,
        None => Some(1),
        // A consumer that reconnects is not a process that has gone.
        Some(before) => Some(before.max(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_waits_until_the_others_know_and_who_goes_counts_once_more() {
        assert_eq!(sharers(None, 1), Some(1));
        assert_eq!(sharers(None, 3), None);
        assert_eq!(sharers(Some(3), 3), Some(3));
        assert_eq!(sharers(Some(1), 2), Some(2));
        assert_eq!(sharers(Some(2), 1), Some(2));
        assert_eq!(sharers(Some(1), 1), Some(1));
    }
}

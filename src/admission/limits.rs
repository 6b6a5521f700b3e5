//! What an app may use at once, per second and per day, and the share of it that one delivery has.

use std::time::Duration;

use tokio::time::Instant;

use super::quota::{AppQuota, NoneInHand, Permit, UsedUp};
use super::rates::{AppRate, BURST, Rates};
use super::slots::{AppSlots, Rank, Slot, Slots};
use crate::db::registry::apps::App;
use crate::db::{Database, Error};
use crate::domain::ids::AppId;
use crate::lifecycle::Tasks;

/// A fresh delivery that waits longer, for its app's share or anything else of its app's, waits in the app's lane instead,
/// where it holds up nobody.
pub const LONG_WAIT: Duration = Duration::from_millis(500);

/// The limits of a process. Cheap to clone.
#[derive(Clone)]
pub struct Limits {
    slots: Slots,
    rates: Rates,
    db: Database,
}

/// The limits of one app. Clones share them.
#[derive(Clone)]
pub struct AppLimits {
    slots: AppSlots,
    rate: AppRate,
    quota: AppQuota,
}

/// One delivery's part of what its app may use. Dropping it gives the slot back, and the day's permit if no request went out.
pub struct Share {
    quota: Option<Permit>,
    /// A request was made with it.
    is_begun: bool,
    _slot: Slot,
}

impl Limits {
    /// So many requests may be in flight over all apps.
    pub fn new(concurrency: usize, db: Database, guard: Tasks) -> Self {
        Self { slots: Slots::new(concurrency), rates: Rates::new(guard), db }
    }

    /// For one more app. Ask once for each: two answers are two apps.
    pub fn for_app(&self, app_id: &AppId) -> AppLimits {
        let quota = AppQuota::new(self.db.clone(), app_id.clone());
        AppLimits { slots: self.slots.for_app(), rate: self.rates.for_app(), quota }
    }

    /// Takes note of how many processes share each app's rate. Nothing limited goes out before.
    pub fn shared_by(&self, processes: u32) {
        self.rates.shared_by(processes);
    }
}

impl AppLimits {
    /// Would a fresh delivery wait long, because the app has its share or is at its rate?
    pub fn are_reached(&self, app: &App) -> bool {
        self.slots.expected_wait() > LONG_WAIT || self.rate.expected_wait(app.rate_per_second) > LONG_WAIT
    }

    /// A fresh delivery has waited in vain. Those behind it need not find out for themselves.
    pub fn stuck(&self) {
        self.slots.stuck();
    }

    /// Waits for a delivery's share.
    pub async fn take_share(&self, app: &App, rank: Rank) -> Result<Share, UsedUp> {
        let slot = self.permit_and_slot(app, rank).await;
        // Last, so that next to nothing lies between the permit and its day.
        let quota = self.quota.take(app.daily_quota.filter(|_| app.active)).await?;
        Ok(Share { quota, is_begun: false, _slot: slot })
    }

    /// A slot is not held while waiting for the rate. A permit that had to wait for a slot is void: many of them would go out
    /// in one burst when the slots come back.
    async fn permit_and_slot(&self, app: &App, rank: Rank) -> Slot {
        let rate = app.rate_per_second.filter(|_| app.active);
        loop {
            self.rate.take(rate, rank).await;
            let permitted = Instant::now();
            let slot = self.slots.take(rank).await;
            if rate.is_none() || permitted.elapsed() <= BURST {
                return slot;
            }
        }
    }

    /// Counts a request that is about to go out. False: the day's number does not allow another one at once.
    pub fn count_request(&self, app: &App, share: &mut Share) -> bool {
        if std::mem::replace(&mut share.is_begun, true) {
            self.rate.charge();
            match self.quota.take_now(app.daily_quota) {
                Ok(permit) => share.quota = permit,
                Err(NoneInHand) => return false,
            }
        }
        share.quota.iter_mut().for_each(Permit::spend);
        true
    }

    /// How many deliveries of the app's lane may be in hand, `most` at the most; fewer where its rate would let them wait longer
    /// than `hold`.
    pub fn most_in_hand(&self, app: &App, hold: Duration, most: usize) -> usize {
        self.rate.most_in_hand(app.rate_per_second, hold).min(most)
    }

    /// Was the day's number used up when last asked?
    pub fn is_quota_used_up(&self) -> bool {
        self.quota.is_used_up()
    }

    /// Looks whether something is left of the day's number by now.
    pub async fn look_at_quota_again(&self, app: &App) -> Result<bool, Error> {
        self.quota.look_again(app.daily_quota).await
    }

    /// What is left of the quota reservation goes back. Call it when nothing is at work any more.
    pub async fn put_quota_back(&self) {
        self.quota.put_back().await;
    }
}

impl Share {
    /// No connection came about, so the request never reached WeChat.
    pub fn not_connected(&mut self) {
        self.quota.iter_mut().for_each(Permit::unspend);
    }
}

//! How often an app may be sent to in a day: `daily_quota` of its row, over all processes and restarts.
//!
//! A process takes permits out of the day's number in chunks, so that most requests cost no SQL, and spends them from a reservation
//! of its own. What is left in it goes back at a stop; what a crash takes along counts as used. An app without a quota has
//! no reservation and costs nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::db::health::Asker;
use crate::db::registry::quota::{self, Chunk, Day};
use crate::db::{Database, Error};
use crate::domain::ids::AppId;

/// A reservation is two small statements.
const LONGEST_QUESTION: Duration = Duration::from_secs(30);
/// Between two questions to a database that is away. A delivery waits for it within `delivery.max_hold`.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// One app's quota as this process sees it. Clones share it.
#[derive(Clone)]
pub struct AppQuota {
    db: Database,
    reservation: Arc<Reservation>,
}

/// The day's number is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedUp {
    /// Midnight in Beijing.
    pub until: Instant,
}

/// The right to make one request, out of a reservation. Dropped unspent, it goes back.
pub struct Permit {
    reservation: Arc<Reservation>,
    day: Day,
    is_spent: bool,
}

/// One app's permits in this process.
struct Reservation {
    app_id: AppId,
    state: Mutex<State>,
    /// Held while asking the database: one question at a time is enough.
    asking: tokio::sync::Mutex<()>,
    /// The last question failed, and the log says so.
    is_failure_said: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// The row's quota when the chunk was taken.
    quota: u64,
    permits: u64,
    /// What day they are for, and its end by our monotonic clock: never later than the database's.
    day: Option<(Day, Instant)>,
    /// Nothing was left when last asked.
    is_used_up: bool,
    /// What was left went back at the stop: nobody looks again.
    is_put_back: bool,
}

impl AppQuota {
    /// Nothing is reserved yet.
    pub fn new(db: Database, app_id: AppId) -> Self {
        let reservation = Reservation {
            app_id,
            state: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            is_failure_said: AtomicBool::new(false),
        };
        Self { db, reservation: Arc::new(reservation) }
    }

    /// The permit for one request; `None` where the app has no quota. Waits while the database that knows is away.
    pub async fn take(&self, quota: Option<u64>) -> Result<Option<Permit>, UsedUp> {
        let Some(quota) = quota else { return Ok(None) };
        loop {
            if let Some(answer) = self.reservation.take_now(quota) {
                return answer.map(Some);
            }
            // A task of its own: a chunk must not be lost because the delivery that needed it has gone.
            let Self { db, reservation } = self.clone();
            let filled = tokio::spawn(async move { reservation.fill_if_needed(&db, quota).await }).await;
            if !matches!(filled, Ok(Ok(()))) {
                tokio::time::sleep(ASK_AGAIN_AFTER).await;
            }
        }
    }

    /// The same out of what is in the reservation: for a request that cannot wait.
    pub fn take_now(&self, quota: Option<u64>) -> Result<Option<Permit>, NoneInHand> {
        let Some(quota) = quota else { return Ok(None) };
        match self.reservation.take_now(quota) {
            Some(Ok(permit)) => Ok(Some(permit)),
            Some(Err(_)) | None => Err(NoneInHand),
        }
    }

    /// Was the day's number used up when last asked? Not after [`Self::put_back`]: another look would reserve again.
    pub fn is_used_up(&self) -> bool {
        let state = self.reservation.lock();
        state.is_used_up && !state.is_put_back
    }

    /// Looks whether there is something left by now: a new day, a higher quota, or what another process has given back.
    pub async fn look_again(&self, quota: Option<u64>) -> Result<bool, Error> {
        let Some(quota) = quota else {
            *self.reservation.lock() = State::default();
            return Ok(true);
        };
        let _asking = self.reservation.asking.lock().await;
        if self.reservation.lock().permits == 0 || !self.reservation.knows(quota) {
            self.reservation.fill(&self.db, quota).await?;
        }
        let mut state = self.reservation.lock();
        state.is_used_up = state.permits == 0;
        Ok(!state.is_used_up)
    }

    /// Puts everything back that was not spent. Call it when nothing is at work any more.
    pub async fn put_back(&self) {
        let _asking = self.reservation.asking.lock().await;
        {
            let mut state = self.reservation.lock();
            // Those that still wait need not ask.
            (state.is_used_up, state.is_put_back) = (true, true);
        }
        if let Err(error) = self.reservation.put_back(&self.db).await {
            let app_id = &self.reservation.app_id;
            tracing::warn!(%error, %app_id, "cannot return the unused quota reservation");
        }
    }
}

/// There is no permit without asking the database, or none at all.
#[derive(Debug)]
pub struct NoneInHand;

impl Reservation {
    /// A permit, or that there is none; `None` where only the database knows.
    fn take_now(self: &Arc<Self>, quota: u64) -> Option<Result<Permit, UsedUp>> {
        let mut state = self.lock();
        let (day, until) = state.current(quota)?;
        if state.permits > 0 {
            state.permits -= 1;
            return Some(Ok(Permit { reservation: Arc::clone(self), day, is_spent: false }));
        }
        state.is_used_up.then_some(Err(UsedUp { until }))
    }

    fn knows(&self, quota: u64) -> bool {
        let state = self.lock();
        state.current(quota).is_some() && (state.permits > 0 || state.is_used_up)
    }

    async fn fill_if_needed(&self, db: &Database, quota: u64) -> Result<(), Error> {
        let _asking = self.asking.lock().await;
        // Somebody else may have asked meanwhile.
        if self.knows(quota) { Ok(()) } else { self.fill(db, quota).await }
    }

    /// A new chunk in place of what the reservation held. The delivery that needed it may have gone by then, so a failure is logged here.
    async fn fill(&self, db: &Database, quota: u64) -> Result<(), Error> {
        let filled = self.put_back_and_reserve(db, quota).await;
        db.health().note(Asker::Quota, &filled);
        let is_said = self.is_failure_said.swap(filled.is_err(), Ordering::Relaxed);
        if let Err(error) = &filled
            && !is_said
        {
            tracing::warn!(%error, app_id = %self.app_id,
                "cannot reserve quota; the app's deliveries wait");
        }
        filled
    }

    async fn put_back_and_reserve(&self, db: &Database, quota: u64) -> Result<(), Error> {
        self.put_back(db).await?;
        let asked = Instant::now();
        let Chunk { permits, day, resets_in } =
            db.heard_within(LONGEST_QUESTION, quota::reserve(db, &self.app_id, quota)).await?;
        let mut state = self.lock();
        // A permit of the same day may have come back meanwhile.
        let came_back = if state.is_of(day) { state.permits } else { 0 };
        let permits = permits + came_back;
        let (day, is_used_up) = (Some((day, asked + resets_in)), permits == 0);
        *state = State { quota, permits, day, is_used_up, is_put_back: state.is_put_back };
        Ok(())
    }

    /// Nobody can spend them meanwhile; where they are certain not to have arrived, they are in the reservation again.
    async fn put_back(&self, db: &Database) -> Result<(), Error> {
        let (permits, day) = {
            let mut state = self.lock();
            (std::mem::take(&mut state.permits), state.day)
        };
        let Some((day, _)) = day.filter(|_| permits > 0) else { return Ok(()) };
        quota::put_back(db, &self.app_id, day, permits).await.map_err(|failed| {
            if failed.is_certain {
                self.keep(permits, day);
            }
            failed.error
        })
    }

    /// One of yesterday's helps nobody today.
    fn keep(&self, permits: u64, day: Day) {
        let mut state = self.lock();
        if state.is_of(day) {
            state.permits += permits;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The day the permits are for, if that is today, and the quota is still the same.
    fn current(&self, quota: u64) -> Option<(Day, Instant)> {
        self.day.filter(|(_, ends)| self.quota == quota && *ends > Instant::now())
    }

    fn is_of(&self, day: Day) -> bool {
        self.day.is_some_and(|(of, _)| of == day)
    }
}

impl Permit {
    /// The request goes out.
    pub fn spend(&mut self) {
        self.is_spent = true;
    }

    /// It did not: no connection came about.
    pub fn unspend(&mut self) {
        self.is_spent = false;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_spent {
            return;
        }
        self.reservation.keep(1, self.day);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reservation(permits: u64, is_used_up: bool) -> Arc<Reservation> {
        let ends = Instant::now() + Duration::from_secs(60);
        let day = Some((Day(1), ends));
        let state = State { quota: 10, permits, day, is_used_up, is_put_back: false };
        let (app_id, asking) = ("wx1".parse().unwrap(), tokio::sync::Mutex::default());
        let is_failure_said = AtomicBool::new(false);
        Arc::new(Reservation { app_id, state: Mutex::new(state), asking, is_failure_said })
    }

    #[tokio::test(start_paused = true)]
    async fn permits_are_spent_and_unspent_ones_go_back() {
        let reservation = reservation(2, false);
        let mut first = reservation.take_now(10).unwrap().unwrap();
        first.spend();
        drop(first);
        let mut second = reservation.take_now(10).unwrap().unwrap();
        assert!(reservation.take_now(10).is_none(), "with an empty reservation only the database knows");
        second.spend();
        second.unspend();
        drop(second);
        assert_eq!(reservation.lock().permits, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reservation_is_good_for_one_day_and_one_quota() {
        let reservation = reservation(1, false);
        assert!(reservation.take_now(11).is_none(), "the quota has changed");
        let yesterdays = reservation.take_now(10).unwrap().unwrap();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(reservation.take_now(10).is_none(), "the day is over");
        reservation.lock().day = Some((Day(2), Instant::now() + Duration::from_secs(60)));
        drop(yesterdays);
        assert_eq!(reservation.lock().permits, 0, "yesterday's permit was carried over");
    }

    #[tokio::test(start_paused = true)]
    async fn used_up_is_known_until_midnight_unless_one_comes_back() {
        let reservation = reservation(1, true);
        let permit = reservation.take_now(10).unwrap().unwrap();
        assert!(reservation.take_now(10).unwrap().is_err());
        drop(permit);
        assert!(reservation.take_now(10).unwrap().is_ok());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(!reservation.knows(10), "a new day is asked for");
    }
}

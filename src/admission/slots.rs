//! Requests in flight, shared between apps: a slow one may hold many slots, but never the last ones.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::ids::AppId;

/// An app may take one more slot only while it holds less than this times what is free: alone it gets four fifths, two busy
/// apps about four ninths each, and there is always a slot for the next one.
const SHARE: usize = 4;
/// How fast the mean follows the last request: about the last ten count.
const MEAN_WEIGHT: f64 = 0.1;

/// Where a delivery came from: within an app, fresh ones go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    Fresh,
    /// From the app's lane, which gets at most half of the app's slots.
    Lane,
}

/// All slots of a process.
#[derive(Clone)]
pub struct Slots(Arc<Mutex<Table>>);

struct Table {
    began: Instant,
    free: usize,
    apps: HashMap<AppId, Seats>,
    /// Apps that somebody waits for, in the order of their turn.
    waiting: VecDeque<AppId>,
}

#[derive(Default)]
struct Seats {
    held: usize,
    held_by_lane: usize,
    /// Somebody waited in vain for whatever comes before a slot, and nobody has got one since.
    is_stuck: bool,
    fresh: VecDeque<oneshot::Sender<Slot>>,
    lane: VecDeque<oneshot::Sender<Slot>>,
    /// How long a request lasted lately.
    mean_seconds: f64,
    /// When the requests in flight began, in seconds of the table's life, added up.
    begun_seconds: f64,
}

/// The right to one request in flight. Dropping it gives it back.
pub struct Slot {
    slots: Slots,
    app_id: AppId,
    rank: Rank,
    since: Instant,
}

impl Slots {
    /// As many as this, all free.
    pub fn new(total: usize) -> Self {
        let (apps, waiting) = (HashMap::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(Table { began: Instant::now(), free: total, apps, waiting })))
    }

    /// Waits for a slot within the app's share.
    pub async fn take(&self, app_id: &AppId, rank: Rank) -> Slot {
        let waiting = {
            let mut table = self.lock();
            if table.may_take(app_id, rank) && !table.is_awaited(app_id, rank) {
                return table.grant(self, app_id, rank);
            }
            table.wait(app_id, rank)
        };
        match waiting.await {
            Ok(slot) => slot,
            // The table never drops a waiter without a slot; if it did, one request too many is the lesser evil.
            Err(_) => self.lock().grant(self, app_id, rank),
        }
    }

    /// How long a fresh delivery that came now would wait; not at all while the app has less than its share.
    pub fn expected_wait(&self, app_id: &AppId) -> Duration {
        let table = self.lock();
        match table.apps.get(app_id) {
            Some(seats) if seats.is_stuck => Duration::MAX,
            _ if table.may_take(app_id, Rank::Fresh) => Duration::ZERO,
            _ => table.expected_wait(app_id),
        }
    }

    /// A delivery of this app has waited in vain: nothing of it is expected to go out until something has.
    pub fn stuck(&self, app_id: &AppId) {
        self.lock().apps.entry(app_id.clone()).or_default().is_stuck = true;
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, slot: &Slot) {
        let mut table = self.lock();
        table.release(slot);
        let granted = table.grant_next(self);
        drop(table);
        for (waiter, slot) in granted {
            // Whoever left while waiting gives the slot back by dropping it, here, outside the lock.
            let _ = waiter.send(slot);
        }
    }
}

impl Table {
    fn may_take(&self, app_id: &AppId, rank: Rank) -> bool {
        let (held, by_lane) = self.apps.get(app_id).map_or((0, 0), |seats| (seats.held, seats.held_by_lane));
        let within_share = self.free > 0 && held < SHARE * self.free;
        match rank {
            Rank::Fresh => within_share,
            Rank::Lane => within_share && by_lane <= self.most_held(held) / 2,
        }
    }

    /// What an app that holds this many could hold at most, as things are: the share, solved for the app.
    fn most_held(&self, held: usize) -> usize {
        (self.free + held) * SHARE / (SHARE + 1)
    }

    fn is_awaited(&self, app_id: &AppId, rank: Rank) -> bool {
        self.apps.get(app_id).is_some_and(|seats| match rank {
            Rank::Fresh => !seats.fresh.is_empty(),
            Rank::Lane => !seats.fresh.is_empty() || !seats.lane.is_empty(),
        })
    }

    fn expected_wait(&self, app_id: &AppId) -> Duration {
        let Some(seats) = self.apps.get(app_id) else { return Duration::ZERO };
        #[expect(clippy::cast_precision_loss, reason = "both are counts of messages in hand")]
        let (before_it, held) = ((seats.fresh.len() + 1) as f64, seats.held.max(1) as f64);
        // The mean knows of nothing that has not ended yet: an app that has become slow shows in what is in flight.
        let age = self.began.elapsed().as_secs_f64() - seats.begun_seconds / held;
        Duration::try_from_secs_f64(before_it / held * seats.mean_seconds.max(age)).unwrap_or(Duration::MAX)
    }

    fn wait(&mut self, app_id: &AppId, rank: Rank) -> oneshot::Receiver<Slot> {
        let (sender, receiver) = oneshot::channel();
        let seats = self.apps.entry(app_id.clone()).or_default();
        if seats.fresh.is_empty() && seats.lane.is_empty() {
            self.waiting.push_back(app_id.clone());
        }
        match rank {
            Rank::Fresh => seats.fresh.push_back(sender),
            Rank::Lane => seats.lane.push_back(sender),
        }
        receiver
    }

    fn grant(&mut self, slots: &Slots, app_id: &AppId, rank: Rank) -> Slot {
        self.free = self.free.saturating_sub(1);
        let since = Instant::now();
        let seats = self.apps.entry(app_id.clone()).or_default();
        seats.held += 1;
        seats.is_stuck = false;
        seats.held_by_lane += usize::from(rank == Rank::Lane);
        seats.begun_seconds += (since - self.began).as_secs_f64();
        Slot { slots: slots.clone(), app_id: app_id.clone(), rank, since }
    }

    /// Slots for those who wait: app by app, and within an app fresh before lane.
    fn grant_next(&mut self, slots: &Slots) -> Vec<(oneshot::Sender<Slot>, Slot)> {
        let mut granted = Vec::new();
        let mut passed_over = 0;
        while passed_over < self.waiting.len() {
            let Some(app_id) = self.waiting.pop_front() else { break };
            match self.next_waiter(&app_id) {
                Some((waiter, rank)) => {
                    granted.push((waiter, self.grant(slots, &app_id, rank)));
                    passed_over = 0;
                }
                None => passed_over += 1,
            }
            if self.is_awaited(&app_id, Rank::Lane) {
                self.waiting.push_back(app_id);
            }
        }
        granted
    }

    fn next_waiter(&mut self, app_id: &AppId) -> Option<(oneshot::Sender<Slot>, Rank)> {
        let (fresh, lane) = (self.may_take(app_id, Rank::Fresh), self.may_take(app_id, Rank::Lane));
        let seats = self.apps.get_mut(app_id)?;
        if fresh && let Some(waiter) = seats.fresh.pop_front() {
            return Some((waiter, Rank::Fresh));
        }
        if lane && let Some(waiter) = seats.lane.pop_front() {
            return Some((waiter, Rank::Lane));
        }
        None
    }

    fn release(&mut self, slot: &Slot) {
        self.free += 1;
        if let Some(seats) = self.apps.get_mut(&slot.app_id) {
            seats.held = seats.held.saturating_sub(1);
            seats.held_by_lane = seats.held_by_lane.saturating_sub(usize::from(slot.rank == Rank::Lane));
            seats.mean_seconds += MEAN_WEIGHT * (slot.since.elapsed().as_secs_f64() - seats.mean_seconds);
            // Nothing in flight: a chance to forget what rounding has left.
            let begun = (slot.since - self.began).as_secs_f64();
            seats.begun_seconds = if seats.held == 0 { 0.0 } else { seats.begun_seconds - begun };
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let slots = self.slots.clone();
        slots.give_back(self);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn app(name: &str) -> AppId {
        name.parse().unwrap()
    }

    fn now(slots: &Slots, name: &str, rank: Rank) -> Option<Slot> {
        slots.take(&app(name), rank).now_or_never()
    }

    fn all(slots: &Slots, name: &str, rank: Rank) -> Vec<Slot> {
        std::iter::from_fn(|| now(slots, name, rank)).collect()
    }

    #[tokio::test]
    async fn one_app_alone_gets_most_slots_but_never_the_last() {
        let slots = Slots::new(100);
        let slow = all(&slots, "slow", Rank::Fresh);
        assert_eq!(slow.len(), 80);
        assert!(now(&slots, "other", Rank::Fresh).is_some());
    }

    #[tokio::test]
    async fn a_lane_gets_half_of_its_apps_slots_and_waits_behind_fresh_ones() {
        let slots = Slots::new(100);
        let from_lane = all(&slots, "busy", Rank::Lane);
        assert_eq!(from_lane.len(), 41);
        let mut fresh = all(&slots, "busy", Rank::Fresh);
        assert_eq!(fresh.len(), 39);

        let busy = app("busy");
        let mut lane_waits = Box::pin(slots.take(&busy, Rank::Lane));
        let mut fresh_waits = Box::pin(slots.take(&busy, Rank::Fresh));
        assert!(
            lane_waits.as_mut().now_or_never().is_none() && fresh_waits.as_mut().now_or_never().is_none()
        );
        fresh.pop();
        assert!(fresh_waits.now_or_never().is_some(), "the lane overtook a fresh one");
    }

    #[tokio::test]
    async fn who_left_the_queue_is_passed_over() {
        let slots = Slots::new(5);
        let mut held = all(&slots, "busy", Rank::Fresh);
        let busy = app("busy");
        let mut leaver = Box::pin(slots.take(&busy, Rank::Fresh));
        assert!(leaver.as_mut().now_or_never().is_none());
        let mut stayer = Box::pin(slots.take(&busy, Rank::Fresh));
        assert!(stayer.as_mut().now_or_never().is_none());
        drop(leaver);
        held.pop();
        assert!(stayer.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_slow_app_with_its_share_makes_wait_long() {
        let slots = Slots::new(10);
        for _ in 0..30 {
            let slot = slots.take(&app("slow"), Rank::Fresh).await;
            tokio::time::advance(Duration::from_secs(5)).await;
            drop(slot);
        }
        assert_eq!(slots.expected_wait(&app("slow")), Duration::ZERO, "there is room");
        let _held = all(&slots, "slow", Rank::Fresh);
        assert!(slots.expected_wait(&app("slow")) > Duration::from_millis(500));
        assert_eq!(slots.expected_wait(&app("other")), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_was_quick_is_known_to_be_slow_before_it_answers() {
        let slots = Slots::new(10);
        tokio::time::advance(Duration::from_secs(3600)).await;
        slots.take(&app("slow"), Rank::Fresh).await;
        let held = all(&slots, "slow", Rank::Fresh);
        assert_eq!(slots.expected_wait(&app("slow")), Duration::ZERO, "nothing is known yet");
        tokio::time::advance(Duration::from_secs(8)).await;
        let wait = slots.expected_wait(&app("slow")).as_secs_f64();
        // The ninth that `all` asked for still stands in line: who left is noticed when its turn comes.
        assert!(
            (1.99..2.01).contains(&wait),
            "second in line behind eight that last eight seconds: {wait} s"
        );
        drop(held);
        assert_eq!(slots.expected_wait(&app("slow")), Duration::ZERO);
    }

    #[tokio::test]
    async fn where_somebody_waited_in_vain_the_next_does_not_wait_until_one_goes_out() {
        let slots = Slots::new(10);
        slots.stuck(&app("stuck"));
        assert_eq!(slots.expected_wait(&app("stuck")), Duration::MAX);
        assert_eq!(slots.expected_wait(&app("other")), Duration::ZERO);
        slots.take(&app("stuck"), Rank::Lane).await;
        assert_eq!(slots.expected_wait(&app("stuck")), Duration::ZERO);
    }
}

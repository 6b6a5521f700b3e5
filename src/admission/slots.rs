//! Requests in flight, shared between apps: a slow one may hold many slots, but never the last ones.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

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

/// The slots as one app sees them.
#[derive(Clone)]
pub struct AppSlots {
    slots: Slots,
    app: AppIndex,
}

/// An app's place in the table. Apps are few, and their places are never given up.
type AppIndex = usize;

struct Table {
    began: Instant,
    free: usize,
    apps: Vec<Seats>,
    /// Apps that somebody waits for, in the order in which they are served.
    waiting: VecDeque<AppIndex>,
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
    app: AppSlots,
    rank: Rank,
    since: Instant,
}

impl Slots {
    /// As many as this, all free.
    pub fn new(total: usize) -> Self {
        let (apps, waiting) = (Vec::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(Table { began: Instant::now(), free: total, apps, waiting })))
    }

    /// For one more app. Ask once for each: two answers are two apps.
    pub fn for_app(&self) -> AppSlots {
        let mut table = self.lock();
        table.apps.push(Seats::default());
        AppSlots { slots: self.clone(), app: table.apps.len() - 1 }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AppSlots {
    /// Waits for a slot within the app's share.
    pub async fn take(&self, rank: Rank) -> Slot {
        let waiting = {
            let mut table = self.slots.lock();
            if table.may_take(self.app, rank) && !table.is_awaited(self.app, rank) {
                return table.grant(self, rank);
            }
            table.wait(self.app, rank)
        };
        match waiting.await {
            Ok(slot) => slot,
            // The table never drops a waiter without a slot; if it did, one request too many is the lesser evil.
            Err(_) => self.slots.lock().grant(self, rank),
        }
    }

    /// How long a fresh delivery that came now would wait; not at all while the app has less than its share.
    pub fn expected_wait(&self) -> Duration {
        let table = self.slots.lock();
        if table.apps[self.app].is_stuck {
            Duration::MAX
        } else if table.may_take(self.app, Rank::Fresh) {
            Duration::ZERO
        } else {
            table.expected_wait(self.app)
        }
    }

    /// A delivery of this app has waited in vain: nothing of it is expected to go out until something has.
    pub fn stuck(&self) {
        self.slots.lock().apps[self.app].is_stuck = true;
    }

    fn give_back(&self, slot: &Slot) {
        let mut table = self.slots.lock();
        table.release(slot);
        let granted = table.grant_next(&self.slots);
        drop(table);
        for (waiter, slot) in granted {
            // A waiter that has left gives the slot back by dropping it, here, outside the lock.
            let _ = waiter.send(slot);
        }
    }
}

impl Table {
    fn may_take(&self, app: AppIndex, rank: Rank) -> bool {
        let Seats { held, held_by_lane, .. } = self.apps[app];
        let within_share = self.free > 0 && held < SHARE * self.free;
        match rank {
            Rank::Fresh => within_share,
            Rank::Lane => within_share && held_by_lane <= self.most_held(held) / 2,
        }
    }

    /// What an app that holds this many could hold at most, as things are: the share, solved for the app.
    fn most_held(&self, held: usize) -> usize {
        (self.free + held) * SHARE / (SHARE + 1)
    }

    fn is_awaited(&self, app: AppIndex, rank: Rank) -> bool {
        let Seats { fresh, lane, .. } = &self.apps[app];
        match rank {
            Rank::Fresh => !fresh.is_empty(),
            Rank::Lane => !fresh.is_empty() || !lane.is_empty(),
        }
    }

    fn expected_wait(&self, app: AppIndex) -> Duration {
        let seats = &self.apps[app];
        #[expect(clippy::cast_precision_loss, reason = "both are counts of messages in hand")]
        let (before_it, held) = ((seats.fresh.len() + 1) as f64, seats.held.max(1) as f64);
        // The mean knows of nothing that has not ended yet: an app that has become slow shows in what is in flight.
        let age = self.began.elapsed().as_secs_f64() - seats.begun_seconds / held;
        Duration::try_from_secs_f64(before_it / held * seats.mean_seconds.max(age)).unwrap_or(Duration::MAX)
    }

    fn wait(&mut self, app: AppIndex, rank: Rank) -> oneshot::Receiver<Slot> {
        let (sender, receiver) = oneshot::channel();
        let seats = &mut self.apps[app];
        if seats.fresh.is_empty() && seats.lane.is_empty() {
            self.waiting.push_back(app);
        }
        match rank {
            Rank::Fresh => seats.fresh.push_back(sender),
            Rank::Lane => seats.lane.push_back(sender),
        }
        receiver
    }

    fn grant(&mut self, app: &AppSlots, rank: Rank) -> Slot {
        self.free = self.free.saturating_sub(1);
        let since = Instant::now();
        let seats = &mut self.apps[app.app];
        seats.held += 1;
        seats.is_stuck = false;
        seats.held_by_lane += usize::from(rank == Rank::Lane);
        seats.begun_seconds += (since - self.began).as_secs_f64();
        Slot { app: app.clone(), rank, since }
    }

    /// Slots for those who wait: app by app, and within an app fresh before lane.
    fn grant_next(&mut self, slots: &Slots) -> Vec<(oneshot::Sender<Slot>, Slot)> {
        let mut granted = Vec::new();
        let mut passed_over = 0;
        while passed_over < self.waiting.len() {
            let Some(app) = self.waiting.pop_front() else { break };
            match self.next_waiter(app) {
                Some((waiter, rank)) => {
                    let app = AppSlots { slots: slots.clone(), app };
                    granted.push((waiter, self.grant(&app, rank)));
                    passed_over = 0;
                }
                None => passed_over += 1,
            }
            if self.is_awaited(app, Rank::Lane) {
                self.waiting.push_back(app);
            }
        }
        granted
    }

    fn next_waiter(&mut self, app: AppIndex) -> Option<(oneshot::Sender<Slot>, Rank)> {
        let (fresh, lane) = (self.may_take(app, Rank::Fresh), self.may_take(app, Rank::Lane));
        let seats = &mut self.apps[app];
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
        let seats = &mut self.apps[slot.app.app];
        seats.held = seats.held.saturating_sub(1);
        seats.held_by_lane = seats.held_by_lane.saturating_sub(usize::from(slot.rank == Rank::Lane));
        seats.mean_seconds += MEAN_WEIGHT * (slot.since.elapsed().as_secs_f64() - seats.mean_seconds);
        // Nothing in flight: a chance to forget what rounding has left.
        let begun = (slot.since - self.began).as_secs_f64();
        seats.begun_seconds = if seats.held == 0 { 0.0 } else { seats.begun_seconds - begun };
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let app = self.app.clone();
        app.give_back(self);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn now(app: &AppSlots, rank: Rank) -> Option<Slot> {
        app.take(rank).now_or_never()
    }

    fn all(app: &AppSlots, rank: Rank) -> Vec<Slot> {
        std::iter::from_fn(|| now(app, rank)).collect()
    }

    #[tokio::test]
    async fn one_app_alone_gets_most_slots_but_never_the_last() {
        let slots = Slots::new(100);
        let slow = all(&slots.for_app(), Rank::Fresh);
        assert_eq!(slow.len(), 80);
        assert!(now(&slots.for_app(), Rank::Fresh).is_some());
    }

    #[tokio::test]
    async fn a_lane_gets_half_of_its_apps_slots_and_waits_behind_fresh_ones() {
        let busy = Slots::new(100).for_app();
        let from_lane = all(&busy, Rank::Lane);
        assert_eq!(from_lane.len(), 41);
        let mut fresh = all(&busy, Rank::Fresh);
        assert_eq!(fresh.len(), 39);

        let mut lane_waits = Box::pin(busy.take(Rank::Lane));
        let mut fresh_waits = Box::pin(busy.take(Rank::Fresh));
        assert!(
            lane_waits.as_mut().now_or_never().is_none() && fresh_waits.as_mut().now_or_never().is_none()
        );
        fresh.pop();
        assert!(fresh_waits.now_or_never().is_some(), "the lane overtook a fresh one");
    }

    #[tokio::test]
    async fn who_left_the_queue_is_passed_over() {
        let busy = Slots::new(5).for_app();
        let mut held = all(&busy, Rank::Fresh);
        let mut leaver = Box::pin(busy.take(Rank::Fresh));
        assert!(leaver.as_mut().now_or_never().is_none());
        let mut stayer = Box::pin(busy.take(Rank::Fresh));
        assert!(stayer.as_mut().now_or_never().is_none());
        drop(leaver);
        held.pop();
        assert!(stayer.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_slow_app_with_its_share_makes_wait_long() {
        let slots = Slots::new(10);
        let (slow, other) = (slots.for_app(), slots.for_app());
        for _ in 0..30 {
            let slot = slow.take(Rank::Fresh).await;
            tokio::time::advance(Duration::from_secs(5)).await;
            drop(slot);
        }
        assert_eq!(slow.expected_wait(), Duration::ZERO, "there is room");
        let _held = all(&slow, Rank::Fresh);
        assert!(slow.expected_wait() > Duration::from_millis(500));
        assert_eq!(other.expected_wait(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_was_quick_is_known_to_be_slow_before_it_answers() {
        let slow = Slots::new(10).for_app();
        tokio::time::advance(Duration::from_secs(3600)).await;
        slow.take(Rank::Fresh).await;
        let held = all(&slow, Rank::Fresh);
        assert_eq!(slow.expected_wait(), Duration::ZERO, "nothing is known yet");
        tokio::time::advance(Duration::from_secs(8)).await;
        let wait = slow.expected_wait().as_secs_f64();
        // The ninth that `all` asked for is still in the queue: who left is noticed when its turn comes.
        assert!(
            (1.99..2.01).contains(&wait),
            "second in the queue behind eight that last eight seconds: {wait} s"
        );
        drop(held);
        assert_eq!(slow.expected_wait(), Duration::ZERO);
    }

    #[tokio::test]
    async fn where_somebody_waited_in_vain_the_next_does_not_wait_until_one_goes_out() {
        let slots = Slots::new(10);
        let (stuck, other) = (slots.for_app(), slots.for_app());
        stuck.stuck();
        assert_eq!(stuck.expected_wait(), Duration::MAX);
        assert_eq!(other.expected_wait(), Duration::ZERO);
        stuck.take(Rank::Lane).await;
        assert_eq!(stuck.expected_wait(), Duration::ZERO);
    }
}

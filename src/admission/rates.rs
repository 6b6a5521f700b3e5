//! How often an app may be sent to: `rate_per_second` of its row, in equal parts for all living processes.
//!
//! Each limited app has a bucket of permits that fills at this process's part of the rate and holds little: what was not used
//! is gone. Who waits gets the permits in turn, a fresh one and one of the lane alternately. An app without a rate has no
//! bucket and costs nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::slots::Rank;
use crate::lifecycle::{Task, Tasks};

/// A bucket holds what comes in within this, and at least one permit. More would let an app that was silent for a while
/// exceed its rate when it speaks; less would waste permits whenever a timer is late.
pub const BURST: Duration = Duration::from_millis(100);
/// How long to wait for the first count of processes before looking again.
const COUNT_WAIT: Duration = Duration::from_millis(100);

/// What the rates of all apps share. Clones share it too.
#[derive(Clone, Default)]
pub struct Rates {
    /// Living processes, this one included; 0 until they were counted, and then nothing limited goes out.
    processes: Arc<AtomicU32>,
    guard: Tasks,
}

/// One app's rate in this process. Clones share it.
#[derive(Clone)]
pub struct AppRate {
    rates: Rates,
    /// From the first time that the app is found to be limited.
    bucket: Arc<Mutex<Option<Bucket>>>,
}

struct Bucket {
    /// Of the app's row: over all processes.
    rate: u32,
    /// Below zero after requests that could not wait.
    permits: f64,
    as_of: Instant,
    fresh: VecDeque<oneshot::Sender<()>>,
    lane: VecDeque<oneshot::Sender<()>>,
    /// Where both wait: is it the lane's turn?
    lane_is_next: bool,
    /// A task hands permits to those who wait.
    is_driven: bool,
}

impl Rates {
    /// Not to be used before [`Self::shared_by`].
    pub fn new(guard: Tasks) -> Self {
        Self { processes: Arc::default(), guard }
    }

    /// For one more app.
    pub fn for_app(&self) -> AppRate {
        AppRate { rates: self.clone(), bucket: Arc::default() }
    }

    /// Takes note of how many processes share each app's rate.
    pub fn shared_by(&self, processes: u32) {
        self.processes.store(processes.max(1), Ordering::Relaxed);
    }

    /// This process's part of a rate, in permits per second.
    fn part_of(&self, rate: u32) -> f64 {
        match self.processes.load(Ordering::Relaxed) {
            0 => 0.0,
            processes => f64::from(rate) / f64::from(processes),
        }
    }
}

impl AppRate {
    /// Waits for the permit to make one request.
    pub async fn take(&self, rate: Option<u32>, rank: Rank) {
        let Some(rate) = rate else { return };
        let waiting = {
            let per_second = self.rates.part_of(rate);
            let mut bucket = self.lock();
            let bucket = bucket.get_or_insert_with(|| Bucket::new(per_second));
            bucket.rate = rate;
            bucket.fill(per_second, Instant::now());
            if bucket.nobody_waits() && bucket.permits >= 1.0 {
                bucket.permits -= 1.0;
                return;
            }
            let waiting = bucket.wait(rank);
            if !std::mem::replace(&mut bucket.is_driven, true) {
                let this = self.clone();
                let drive = move || this.clone().drive();
                tokio::spawn(self.rates.guard.restarting(Task::RatePermits, drive));
            }
            waiting
        };
        // The driver never drops a waiter without a permit; if it did, one request too many is the lesser evil.
        let _ = waiting.await;
    }

    /// Takes note of a request that could not wait: the next one waits for it.
    pub fn charge(&self) {
        if let Some(bucket) = &mut *self.lock() {
            bucket.permits -= 1.0;
        }
    }

    /// How long a fresh delivery that came now would wait for its permit.
    pub fn expected_wait(&self, rate: Option<u32>) -> Duration {
        let Some(rate) = rate else { return Duration::ZERO };
        let per_second = self.rates.part_of(rate);
        match &*self.lock() {
            _ if per_second == 0.0 => Duration::MAX,
            Some(bucket) => bucket.expected_wait(per_second, Instant::now()),
            None => Duration::ZERO,
        }
    }

    /// How many deliveries of the lane may be in hand so that none waits in vain: what half of the rate sends within `hold`.
    pub fn most_in_hand(&self, rate: Option<u32>, hold: Duration) -> usize {
        let Some(rate) = rate else { return usize::MAX };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count; too large saturates"
        )]
        let most = (self.rates.part_of(rate) * hold.as_secs_f64() / 2.0) as usize;
        most.max(1)
    }

    /// Hands permits to those who wait, until nobody does.
    async fn drive(self) {
        while let Some(wait) = self.grant_due() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Hands out what is there; answers how long until there is more, or `None` when nobody waits.
    fn grant_due(&self) -> Option<Duration> {
        let mut bucket = self.lock();
        let bucket = bucket.as_mut()?;
        let per_second = self.rates.part_of(bucket.rate);
        bucket.fill(per_second, Instant::now());
        while bucket.permits >= 1.0 {
            let Some(waiter) = bucket.next_waiter() else { break };
            // Those that left while waiting are passed over.
            if waiter.send(()).is_ok() {
                bucket.permits -= 1.0;
            }
        }
        bucket.is_driven = !bucket.nobody_waits();
        bucket.is_driven.then(|| bucket.until_next(per_second))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Bucket>> {
        // Nothing panics under this lock.
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn new(per_second: f64) -> Self {
        Self {
            rate: 0,
            permits: if per_second > 0.0 { 1.0 } else { 0.0 },
            as_of: Instant::now(),
            fresh: VecDeque::new(),
            lane: VecDeque::new(),
            lane_is_next: false,
            is_driven: false,
        }
    }

    fn fill(&mut self, per_second: f64, now: Instant) {
        let came_in = per_second * now.duration_since(self.as_of).as_secs_f64();
        let most = (per_second * BURST.as_secs_f64()).max(1.0);
        self.permits = (self.permits + came_in).min(most);
        self.as_of = now;
    }

    fn nobody_waits(&self) -> bool {
        self.fresh.is_empty() && self.lane.is_empty()
    }

    fn wait(&mut self, rank: Rank) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        match rank {
            Rank::Fresh => self.fresh.push_back(sender),
            Rank::Lane => self.lane.push_back(sender),
        }
        receiver
    }

    /// Fresh ones and the lane take turns where both wait, so the lane gets half at most, and is never starved.
    fn next_waiter(&mut self) -> Option<oneshot::Sender<()>> {
        let lanes_turn = std::mem::replace(&mut self.lane_is_next, false);
        let from_lane = if lanes_turn { self.lane.pop_front() } else { None };
        from_lane.or_else(|| {
            let fresh = self.fresh.pop_front();
            self.lane_is_next = fresh.is_some();
            fresh.or_else(|| self.lane.pop_front())
        })
    }

    fn until_next(&self, per_second: f64) -> Duration {
        if per_second == 0.0 {
            return COUNT_WAIT;
        }
        Duration::try_from_secs_f64((1.0 - self.permits).max(0.0) / per_second).unwrap_or(COUNT_WAIT)
    }

    fn expected_wait(&self, per_second: f64, now: Instant) -> Duration {
        let came_in = per_second * now.duration_since(self.as_of).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count of messages in hand")]
        let missing = (self.fresh.len() + 1) as f64 - self.permits - came_in;
        let for_fresh = if self.lane.is_empty() { per_second } else { per_second / 2.0 };
        Duration::try_from_secs_f64(missing.max(0.0) / for_fresh).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;

    fn shared_by(processes: u32) -> AppRate {
        let rates = Rates::default();
        rates.shared_by(processes);
        rates.for_app()
    }

    /// When each of so many permits came, in seconds from now.
    async fn granted(app: &AppRate, rate: u32, rank: Rank, count: usize) -> Vec<f64> {
        let began = Instant::now();
        let takes = (0..count).map(|_| async {
            app.take(Some(rate), rank).await;
            began.elapsed().as_secs_f64()
        });
        join_all(takes).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_is_sent_to_at_its_rate_and_what_it_did_not_use_is_gone() {
        let app = shared_by(1);
        let last = granted(&app, 20, Rank::Fresh, 101).await.into_iter().fold(0.0, f64::max);
        assert!((4.9..5.2).contains(&last), "a hundred permits at 20/s took {last} s");
        tokio::time::advance(Duration::from_secs(3600)).await;
        let at_once = granted(&app, 20, Rank::Fresh, 10).await.iter().filter(|at| **at < 0.01).count();
        assert_eq!(at_once, 2, "a tenth of a second's worth");
    }

    #[tokio::test(start_paused = true)]
    async fn processes_share_the_rate_and_nothing_goes_out_before_they_are_counted() {
        let rates = Rates::default();
        let app = rates.for_app();
        assert_eq!(app.expected_wait(Some(10)), Duration::MAX);
        let mut waits = Box::pin(app.take(Some(10), Rank::Fresh));
        assert!(waits.as_mut().now_or_never().is_none());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(waits.as_mut().now_or_never().is_none(), "sent at an unknown rate");
        rates.shared_by(2);
        waits.await;
        let last = granted(&app, 10, Rank::Fresh, 20).await.into_iter().fold(0.0, f64::max);
        assert!((3.8..4.3).contains(&last), "twenty at half of 10/s took {last} s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fresh_one_overtakes_the_lane_which_still_gets_half() {
        let app = shared_by(1);
        let (fresh, lane) =
            tokio::join!(granted(&app, 10, Rank::Fresh, 20), granted(&app, 10, Rank::Lane, 40));
        let during = lane.iter().filter(|at| **at <= fresh[19]).count();
        assert!((18..=21).contains(&during), "{during} of the lane while 20 fresh ones went out");
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_long_is_told_and_who_left_is_passed_over() {
        let app = shared_by(1);
        app.take(Some(2), Rank::Fresh).await;
        assert_eq!(app.expected_wait(Some(2)), Duration::from_millis(500));
        let mut leavers: Vec<_> = (0..9).map(|_| Box::pin(app.take(Some(2), Rank::Fresh))).collect();
        leavers.iter_mut().for_each(|leaver| assert!(leaver.as_mut().now_or_never().is_none()));
        assert_eq!(app.expected_wait(Some(2)), Duration::from_secs(5));
        drop(leavers);
        let waited = granted(&app, 2, Rank::Lane, 1).await[0];
        assert!(waited < 0.6, "waited {waited} s behind those who had left");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_could_not_wait_is_made_up_for() {
        let app = shared_by(1);
        app.take(Some(10), Rank::Fresh).await;
        (0..10).for_each(|_| app.charge());
        let waited = granted(&app, 10, Rank::Fresh, 1).await[0];
        assert!((1.0..1.2).contains(&waited), "waited {waited} s");
        assert_eq!(app.most_in_hand(Some(10), Duration::from_secs(30)), 150);
        assert_eq!(app.most_in_hand(None, Duration::from_secs(30)), usize::MAX);
    }

    #[tokio::test]
    async fn an_app_without_a_rate_never_waits() {
        assert!(Rates::default().for_app().take(None, Rank::Fresh).now_or_never().is_some());
    }
}

//! How often an app may be sent to: `rate_per_second` of its row, in equal parts for all living processes.
//!
//! Each limited app has a bucket of permits that fills at this process's part of the rate and holds little: what was not used
//! is gone. Who waits gets the permits in turn, a fresh one and one of the lane alternately. An app without a rate has no
//! bucket and costs nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::slots::Rank;
use crate::domain::ids::AppId;
use crate::lifecycle::{Task, Tasks};

/// A bucket holds what comes in within this, and at least one permit. More would let an app that was silent for a while
/// exceed its rate when it speaks; less would waste permits whenever a timer is late.
pub const BURST: Duration = Duration::from_millis(100);
/// How long to wait for the first count of processes before looking again.
const COUNT_WAIT: Duration = Duration::from_millis(100);

/// The buckets of all limited apps of a process.
#[derive(Clone, Default)]
pub struct Rates {
    table: Arc<Mutex<Table>>,
    guard: Tasks,
}

#[derive(Default)]
struct Table {
    /// Living processes, this one included; `None` until they were counted, and then nothing limited goes out.
    processes: Option<u32>,
    apps: HashMap<AppId, Bucket>,
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
    /// No buckets yet.
    pub fn new(guard: Tasks) -> Self {
        Self { table: Arc::default(), guard }
    }

    /// Waits for the permit to make one request.
    pub async fn take(&self, app_id: &AppId, rate: Option<u32>, rank: Rank) {
        let Some(rate) = rate else { return };
        let waiting = {
            let mut table = self.lock();
            let per_second = table.part_of(rate);
            let bucket = table.apps.entry(app_id.clone()).or_insert_with(|| Bucket::new(per_second));
            bucket.rate = rate;
            bucket.fill(per_second, Instant::now());
            if bucket.nobody_waits() && bucket.permits >= 1.0 {
                bucket.permits -= 1.0;
                return;
            }
            let waiting = bucket.wait(rank);
            if !std::mem::replace(&mut bucket.is_driven, true) {
                let (rates, app_id) = (self.clone(), app_id.clone());
                let drive = move || rates.clone().drive(app_id.clone());
                tokio::spawn(self.guard.restarting(Task::RatePermits, drive));
            }
            waiting
        };
        // The driver never drops a waiter without a permit; if it did, one request too many is the lesser evil.
        let _ = waiting.await;
    }

    /// Takes note of a request that could not wait: whoever comes next waits for it.
    pub fn charge(&self, app_id: &AppId) {
        if let Some(bucket) = self.lock().apps.get_mut(app_id) {
            bucket.permits -= 1.0;
        }
    }

    /// How long a fresh delivery that came now would wait for its permit.
    pub fn expected_wait(&self, app_id: &AppId, rate: Option<u32>) -> Duration {
        let Some(rate) = rate else { return Duration::ZERO };
        let table = self.lock();
        let per_second = table.part_of(rate);
        match table.apps.get(app_id) {
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
        let most = (self.lock().part_of(rate) * hold.as_secs_f64() / 2.0) as usize;
        most.max(1)
    }

    /// Takes note of how many processes share each app's rate.
    pub fn shared_by(&self, processes: u32) {
        self.lock().processes = Some(processes.max(1));
    }

    /// Hands permits to those who wait, until nobody does.
    async fn drive(self, app_id: AppId) {
        while let Some(wait) = self.grant_due(&app_id) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Hands out what is there; answers how long until there is more, or `None` when nobody waits.
    fn grant_due(&self, app_id: &AppId) -> Option<Duration> {
        let mut table = self.lock();
        let rate = table.apps.get(app_id)?.rate;
        let per_second = table.part_of(rate);
        let bucket = table.apps.get_mut(app_id)?;
        bucket.fill(per_second, Instant::now());
        while bucket.permits >= 1.0 {
            let Some(waiter) = bucket.next_waiter() else { break };
            // Whoever left while waiting is passed over.
            if waiter.send(()).is_ok() {
                bucket.permits -= 1.0;
            }
        }
        bucket.is_driven = !bucket.nobody_waits();
        bucket.is_driven.then(|| bucket.until_next(per_second))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics under this lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// This process's part of a rate, in permits per second.
    fn part_of(&self, rate: u32) -> f64 {
        self.processes.map_or(0.0, |processes| f64::from(rate) / f64::from(processes))
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

    fn app() -> AppId {
        "busy".parse().unwrap()
    }

    fn rates(processes: u32) -> Rates {
        let rates = Rates::default();
        rates.shared_by(processes);
        rates
    }

    /// When each of so many permits came, in seconds from now.
    async fn granted(rates: &Rates, rate: u32, rank: Rank, count: usize) -> Vec<f64> {
        let began = Instant::now();
        let app = app();
        let takes = (0..count).map(|_| async {
            rates.take(&app, Some(rate), rank).await;
            began.elapsed().as_secs_f64()
        });
        join_all(takes).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_is_sent_to_at_its_rate_and_what_it_did_not_use_is_gone() {
        let rates = rates(1);
        let last = granted(&rates, 20, Rank::Fresh, 101).await.into_iter().fold(0.0, f64::max);
        assert!((4.9..5.2).contains(&last), "a hundred permits at 20/s took {last} s");
        tokio::time::advance(Duration::from_secs(3600)).await;
        let at_once = granted(&rates, 20, Rank::Fresh, 10).await.iter().filter(|at| **at < 0.01).count();
        assert_eq!(at_once, 2, "a tenth of a second's worth");
    }

    #[tokio::test(start_paused = true)]
    async fn processes_share_the_rate_and_nothing_goes_out_before_they_are_counted() {
        let rates = Rates::default();
        let app = app();
        assert_eq!(rates.expected_wait(&app, Some(10)), Duration::MAX);
        let mut waits = Box::pin(rates.take(&app, Some(10), Rank::Fresh));
        assert!(waits.as_mut().now_or_never().is_none());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(waits.as_mut().now_or_never().is_none(), "sent at an unknown rate");
        rates.shared_by(2);
        waits.await;
        let last = granted(&rates, 10, Rank::Fresh, 20).await.into_iter().fold(0.0, f64::max);
        assert!((3.8..4.3).contains(&last), "twenty at half of 10/s took {last} s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fresh_one_overtakes_the_lane_which_still_gets_half() {
        let rates = rates(1);
        let (fresh, lane) =
            tokio::join!(granted(&rates, 10, Rank::Fresh, 20), granted(&rates, 10, Rank::Lane, 40));
        let during = lane.iter().filter(|at| **at <= fresh[19]).count();
        assert!((18..=21).contains(&during), "{during} of the lane while 20 fresh ones went out");
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_long_is_told_and_who_left_is_passed_over() {
        let rates = rates(1);
        let app = app();
        rates.take(&app, Some(2), Rank::Fresh).await;
        assert_eq!(rates.expected_wait(&app, Some(2)), Duration::from_millis(500));
        let mut leavers: Vec<_> = (0..9).map(|_| Box::pin(rates.take(&app, Some(2), Rank::Fresh))).collect();
        leavers.iter_mut().for_each(|leaver| assert!(leaver.as_mut().now_or_never().is_none()));
        assert_eq!(rates.expected_wait(&app, Some(2)), Duration::from_secs(5));
        drop(leavers);
        let waited = granted(&rates, 2, Rank::Lane, 1).await[0];
        assert!(waited < 0.6, "waited {waited} s behind those who had left");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_could_not_wait_is_made_up_for() {
        let rates = rates(1);
        rates.take(&app(), Some(10), Rank::Fresh).await;
        (0..10).for_each(|_| rates.charge(&app()));
        let waited = granted(&rates, 10, Rank::Fresh, 1).await[0];
        assert!((1.0..1.2).contains(&waited), "waited {waited} s");
        assert_eq!(rates.most_in_hand(Some(10), Duration::from_secs(30)), 150);
        assert_eq!(rates.most_in_hand(None, Duration::from_secs(30)), usize::MAX);
    }

    #[tokio::test]
    async fn an_app_without_a_rate_never_waits() {
        assert!(Rates::default().take(&app(), None, Rank::Fresh).now_or_never().is_some());
    }
}

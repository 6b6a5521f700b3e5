//! Do messages in hand make progress? Without it a standstill would show nowhere but in what users do not get.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Over the time that one request may take: to wait for WeChat's answer is no stall.
const STALL_MARGIN: Duration = Duration::from_secs(2);
/// Shorter than this is a hiccup that nobody needs to hear of.
const SHORTEST_STALL: Duration = Duration::from_secs(10);

/// What is in hand, and when something was last done about it. Costs a look at the clock and three atomic writes a message.
pub struct StallDetector {
    start: Instant,
    request_timeout: Duration,
    in_hand: AtomicUsize,
    /// Milliseconds from `start` on.
    last_ms: AtomicU64,
}

/// One message in hand.
pub struct InHand<'a>(&'a StallDetector);

/// Nothing has been done about what is in hand for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stalled {
    pub in_hand: usize,
    pub since: Duration,
}

impl StallDetector {
    /// Nothing is in hand. A request may take this long.
    pub fn new(request_timeout: Duration) -> Self {
        Self {
            start: Instant::now(),
            request_timeout,
            in_hand: AtomicUsize::new(0),
            last_ms: AtomicU64::new(0),
        }
    }

    /// Takes one message in hand, until the value is dropped.
    pub fn take(&self) -> InHand<'_> {
        if self.in_hand.fetch_add(1, Ordering::Relaxed) == 0 {
            self.progress();
        }
        InHand(self)
    }

    /// Something was settled, deferred or given up.
    pub fn progress(&self) {
        self.last_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// How long nothing has happened; `None` while nothing is in hand.
    pub fn stalled(&self) -> Option<Stalled> {
        let in_hand = self.in_hand.load(Ordering::Relaxed);
        let since_ms = self.now_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed));
        (in_hand > 0).then(|| Stalled { in_hand, since: Duration::from_millis(since_ms) })
    }

    /// Why nothing happens is known, and said elsewhere: a standstill begins once that is over.
    pub fn excuse_stall(&self) {
        self.progress();
    }

    /// From here on it is a standstill, and no slow answer.
    pub fn stall_after(&self) -> Duration {
        self.request_timeout.max(SHORTEST_STALL) + STALL_MARGIN
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.progress();
        self.0.in_hand.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_standstill_begins_with_the_last_thing_done() {
        let detector = StallDetector::new(Duration::from_secs(10));
        assert_eq!(detector.stalled(), None, "nothing is in hand");
        let (first, _second) = (detector.take(), detector.take());
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(detector.stalled(), Some(Stalled { in_hand: 2, since: Duration::from_secs(20) }));
        drop(first);
        assert_eq!(detector.stalled(), Some(Stalled { in_hand: 1, since: Duration::ZERO }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_rest_is_no_standstill() {
        let detector = StallDetector::new(Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(3600)).await;
        let _first = detector.take();
        assert_eq!(detector.stalled().unwrap().since, Duration::ZERO);
    }
}

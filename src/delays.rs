//! Growing, jittered delays, and chance: the one place that names the `backoff` crate.
//!
//! `backoff` is unmaintained (RUSTSEC-2025-0012; why it is used anyway is in `.deny.toml`). Only its policy is
//! used, a few lines of arithmetic: none of its futures, and no elapsed time, since its clock is not ours.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

/// Delays that double up to a ceiling, each drawn evenly between nothing and the current size ("full jitter"): many
/// callers that failed together do not come back together.
///
/// An iterator: `next()` gives the delay before the next try, or `None` when there should be no further one.
#[derive(Debug, Clone)]
pub struct Delays {
    policy: ExponentialBackoff,
    /// `None` = forever.
    max_tries: Option<u32>,
    tries: u32,
}

impl Delays {
    /// The first delay is at most `initial`, the later ones at most `max`; after `max_tries` delays there are no more.
    pub fn new(initial: Duration, max: Duration, max_tries: Option<u32>) -> Self {
        // The crate draws from interval ± factor × interval; half the size and a factor of one make that 0..=size.
        let half = initial / 2;
        let policy = ExponentialBackoff {
            current_interval: half,
            initial_interval: half,
            max_interval: max / 2,
            multiplier: 2.0,
            randomization_factor: 1.0,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Self { policy, max_tries, tries: 0 }
    }

    /// For connections to broker and database. Slower than 5 s: the outage lasts longer than the restart itself. Quicker than
    /// 100 ms: a starting server is flooded.
    pub fn reconnect() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(5), None)
    }

    /// For one delivery, in place: three short retries bridge a short failure, within the claim's lease.
    pub fn quick_retry() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(1), Some(3))
    }

    /// For a token endpoint that does not answer: retried within seconds of its return.
    pub fn endpoint_away() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(5), None)
    }

    /// For a token endpoint that refuses us: only an operator can fix that, and each refusal counts against a daily quota.
    pub fn endpoint_refuses() -> Self {
        Self::new(Duration::from_secs(5), Duration::from_secs(60), None)
    }

    /// Starts again from the smallest delay, with all tries left.
    pub fn reset(&mut self) {
        self.policy.reset();
        self.tries = 0;
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.max_tries.is_some_and(|max| self.tries >= max) {
            return None;
        }
        self.tries = self.tries.saturating_add(1);
        self.policy.next_backoff()
    }
}

/// Any duration between the two, evenly.
pub fn between(least: Duration, most: Duration) -> Duration {
    least + most.saturating_sub(least).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const CEILING: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_up_to_the_ceiling() {
        for _ in 0..200 {
            let drawn: Vec<Duration> = Delays::new(FIRST, CEILING, None).take(8).collect();
            let sizes = [100, 200, 400, 800, 1_000, 1_000, 1_000, 1_000];
            for (delay, size_ms) in drawn.iter().zip(sizes) {
                assert!(delay.as_millis() <= size_ms, "{delay:?} is more than {size_ms} ms");
            }
        }
    }

    #[test]
    fn jitter_uses_the_whole_range() {
        let firsts: Vec<Duration> =
            (0..500).filter_map(|_| Delays::new(FIRST, CEILING, None).next()).collect();
        assert!(firsts.iter().any(|delay| *delay < FIRST / 5));
        assert!(firsts.iter().any(|delay| *delay > FIRST * 4 / 5));
    }

    #[test]
    fn tries_run_out_and_come_back_on_reset() {
        let mut delays = Delays::new(FIRST, CEILING, Some(2));
        assert_eq!(delays.by_ref().count(), 2);
        assert_eq!(delays.next(), None);
        delays.reset();
        assert!(delays.next().is_some_and(|delay| delay <= FIRST));
    }

    #[test]
    fn between_stays_between() {
        for _ in 0..200 {
            let drawn = between(FIRST, CEILING);
            assert!(drawn >= FIRST && drawn <= CEILING);
        }
        assert_eq!(between(CEILING, FIRST), CEILING, "a turned-round range is its first bound");
    }
}

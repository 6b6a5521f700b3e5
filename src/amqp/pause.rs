//! How long to wait before the next try.

use std::time::Duration;

/// First and longest pause before connecting again. Shorter would storm a broker that is starting.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Full jitter: anything between nothing and a doubling bound, so that a fleet does not come back in step.
pub(super) struct Pause {
    bound: Duration,
    longest: Duration,
}

impl Pause {
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { bound: first, longest }
    }

    /// For everything that needs a new connection or channel.
    pub fn reconnect() -> Self {
        Self::new(FIRST_PAUSE, LONGEST_PAUSE)
    }

    pub fn next(&mut self) -> Duration {
        let bound = self.bound;
        self.bound = (bound * 2).min(self.longest);
        bound.mul_f64(fastrand::f64())
    }
}

//! Heartbeats: each loop reports regularly, and one that is silent for too long is named by `/livez`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// All loops of the process. Clones share one list.
#[derive(Clone)]
pub struct Heartbeats {
    start: Instant,
    pulses: Arc<Mutex<Vec<Arc<Pulse>>>>,
}

/// One loop's way to say that it is alive. Dropping it takes the loop off the list: a loop that ended in order is not
/// stalled, and one that did not is noticed by [`Lifecycle::supervise`](super::Lifecycle::supervise).
pub struct Beat {
    pulse: Arc<Pulse>,
    heartbeats: Heartbeats,
}

/// A loop that has been silent for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stalled {
    pub name: String,
    pub silence: Duration,
    pub max_silence: Duration,
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (silence, most) = (self.silence.as_secs(), self.max_silence.as_secs());
        write!(f, "{} gave no sign of life for {silence} s; the limit is {most} s", self.name)
    }
}

struct Pulse {
    name: String,
    max_silence: Duration,
    /// Milliseconds between the list's start and the last beat.
    last_ms: AtomicU64,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Self::new()
    }
}

impl Heartbeats {
    /// An empty list.
    pub fn new() -> Self {
        Self { start: Instant::now(), pulses: Arc::default() }
    }

    /// Puts a loop on the list; registering counts as its first beat. A loop that waits for work must beat while it waits,
    /// so give it a timer well below `max_silence`.
    pub fn register(&self, name: impl Into<String>, max_silence: Duration) -> Beat {
        let last_ms = AtomicU64::new(self.now_ms());
        let pulse = Arc::new(Pulse { name: name.into(), max_silence, last_ms });
        self.pulses().push(pulse.clone());
        Beat { pulse, heartbeats: self.clone() }
    }

    /// The loops that have been silent for too long.
    pub fn stalled(&self) -> Vec<Stalled> {
        let now_ms = self.now_ms();
        let silence = |pulse: &Pulse| now_ms.saturating_sub(pulse.last_ms.load(Ordering::Relaxed));
        let stalled = |pulse: &Arc<Pulse>| {
            let silence = Duration::from_millis(silence(pulse));
            let max_silence = pulse.max_silence;
            (silence > max_silence).then(|| Stalled { name: pulse.name.clone(), silence, max_silence })
        };
        self.pulses().iter().filter_map(stalled).collect()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn pulses(&self) -> MutexGuard<'_, Vec<Arc<Pulse>>> {
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beat {
    /// Reports that the loop is alive. Costs one reading of the clock and a store.
    pub fn beat(&self) {
        self.pulse.last_ms.store(self.heartbeats.now_ms(), Ordering::Relaxed);
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.heartbeats.pulses().retain(|pulse| !Arc::ptr_eq(pulse, &self.pulse));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_SILENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_silent_loop_is_named() {
        let heartbeats = Heartbeats::new();
        let events = heartbeats.register("events consumer", MAX_SILENCE);
        let _archive = heartbeats.register("archive", MAX_SILENCE);
        tokio::time::advance(MAX_SILENCE).await;
        assert_eq!(heartbeats.stalled(), []);

        events.beat();
        tokio::time::advance(Duration::from_secs(1)).await;
        let stalled: Vec<_> = heartbeats.stalled().iter().map(ToString::to_string).collect();
        assert_eq!(stalled, ["archive gave no sign of life for 31 s; the limit is 30 s"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_ended_is_not_missed() {
        let heartbeats = Heartbeats::new();
        drop(heartbeats.register("events consumer", MAX_SILENCE));
        tokio::time::advance(2 * MAX_SILENCE).await;
        assert_eq!(heartbeats.stalled(), []);
    }
}

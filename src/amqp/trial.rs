//! How long a consumer takes one message at a time.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A queue this quiet has nothing bad at its head, where the broker puts what comes back. Longer only holds later
/// messages up.
const AT_MOST: Duration = Duration::from_secs(60);

/// What a consumer has yet to take before it is trusted with many messages again. As many as were in hand when the
/// connection ended: those come first, and so nobody is counted twice for the same bad message.
pub(super) struct Trial {
    left: u16,
    watch: TrialWatch,
}

/// The other end of a trial.
#[derive(Clone)]
pub(super) struct TrialWatch {
    passed: CancellationToken,
    ends: Instant,
}

impl Trial {
    /// A trial of a consumer that may have `prefetch` messages in hand otherwise.
    pub fn of(prefetch: u16) -> Self {
        let watch = TrialWatch { passed: CancellationToken::new(), ends: Instant::now() + AT_MOST };
        Self { left: prefetch, watch }
    }

    /// One more message came, which with a prefetch of one means that the last one is settled.
    pub fn count(&mut self) {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.watch.passed.cancel();
        }
    }

    /// Whether its time or its count is up.
    pub fn is_over(&self) -> bool {
        self.watch.passed.is_cancelled() || self.watch.ends <= Instant::now()
    }

    pub fn watch(&self) -> TrialWatch {
        self.watch.clone()
    }
}

/// Waits until a trial is over; for ever where there is none.
pub(super) async fn passed(trial: Option<&TrialWatch>) {
    let Some(TrialWatch { passed, ends }) = trial else { return std::future::pending().await };
    tokio::select! {
        () = passed.cancelled() => {}
        () = tokio::time::sleep_until(*ends) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_trial_ends_when_everything_that_was_in_hand_has_come() {
        let mut trial = Trial::of(3);
        trial.count();
        trial.count();
        assert!(!trial.is_over());
        trial.count();
        assert!(trial.is_over());
        let waited = tokio::time::timeout(AT_MOST / 2, passed(Some(&trial.watch()))).await;
        assert!(waited.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_ends_on_a_quiet_queue() {
        let trial = Trial::of(3);
        assert!(tokio::time::timeout(AT_MOST / 2, passed(Some(&trial.watch()))).await.is_err());
        passed(Some(&trial.watch())).await;
        assert!(trial.is_over());
    }
}

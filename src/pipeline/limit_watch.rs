//! Follows who shares the rates, and resumes apps whose day has something left again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::apps::Apps;
use crate::admission::Limits;
use crate::amqp::Broker;
use crate::lifecycle::Beat;

/// Between two looks at who shares the rates, and at quotas that are used up. Longer delays what an operator has raised;
/// shorter asks broker and database for news that they seldom have.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Looks at what limits apps from outside of this process.
pub struct LimitWatch {
    pub(super) broker: Broker,
    pub(super) apps: Arc<Apps>,
    pub(super) limits: Limits,
}

impl LimitWatch {
    /// Runs forever; `attached` says when our own consumer of fresh events can be counted.
    pub async fn run(self: Arc<Self>, mut attached: watch::Receiver<bool>, beat: Arc<Beat>) {
        // An end of the news is the process's own; nothing limited matters then.
        while !*attached.borrow_and_update() {
            beat.beat();
            let _ = tokio::time::timeout(LOOK_EVERY, attached.changed()).await;
        }
        let mut before = None;
        loop {
            beat.beat();
            match self.broker.consumers(&self.broker.topology().events()).await {
                Ok(now) => {
                    sharers(before, now).into_iter().for_each(|processes| self.limits.shared_by(processes));
                    before = Some(now);
                }
                Err(error) => tracing::debug!(%error, "cannot count the processes that share the rates"),
            }
            self.look_at_quotas().await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look_at_quotas(&self) {
        for app in self.apps.all_met().iter().filter(|app| app.limits.is_quota_used_up()) {
            match app.limits.look_at_quota_again(&app.settings()).await {
                Ok(true) => app.breaker.quota_back(),
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(%error, app_id = %app.app_id, "cannot ask whether the quota is back")
                }
            }
        }
    }
}

/// How many processes share the rates, by two counts of consumers in a row; `None` before anything may go out.
fn sharers(before: Option<u32>, now: u32) -> Option<u32> {
    match before {
        // The others count us with their next look; until then the whole rate is theirs.
        None if now > 1 => None,
        None => Some(1),
        // A consumer that reconnects is not a process that has gone.
        Some(before) => Some(before.max(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_waits_until_the_others_know_and_who_goes_counts_once_more() {
        assert_eq!(sharers(None, 1), Some(1));
        assert_eq!(sharers(None, 3), None);
        assert_eq!(sharers(Some(3), 3), Some(3));
        assert_eq!(sharers(Some(1), 2), Some(2));
        assert_eq!(sharers(Some(2), 1), Some(2));
        assert_eq!(sharers(Some(1), 1), Some(1));
    }
}

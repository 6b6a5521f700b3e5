//! Waiting for the outcomes of a canary's step.

use std::time::Duration;

use tokio::time::Instant;

use super::{Fault, Replayer};
use crate::db::replay;
use crate::domain::replay::{State, Tally};
use crate::failpoint::crash_point;

/// Between two looks at a step's outcomes, and at whether an operator wants something else by now.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Replayer {
    /// Waits for the outcomes of a step, and passes it or stops the replay. Returns early when somebody else moved it on.
    pub(super) async fn check(&self, id: i64, now: &replay::Standing, step: i32) -> Result<(), Fault> {
        let deadline = Instant::now() + now.canary_wait;
        loop {
            let tally = replay::tally(&self.db, id, step).await?;
            let because = if tally.fails(now.max_failed_percent) {
                too_many_failed(step, &tally, now.max_failed_percent)
            } else if tally.in_progress == 0 {
                crash_point("replay_step_checked");
                return Ok(replay::pass_step(&self.db, id, step).await?);
            } else if Instant::now() >= deadline {
                no_outcome_in_time(step, &tally, now.canary_wait)
            } else {
                tokio::time::sleep(LOOK_EVERY).await;
                let standing = replay::standing(&self.db, id).await?;
                if standing.is_none_or(|standing| standing.state != State::Running) {
                    return Ok(());
                }
                continue;
            };
            replay::move_on(&self.db, id, State::Stopped, Some(&because)).await?;
            return Ok(());
        }
    }
}

fn too_many_failed(step: i32, tally: &Tally, max_percent: i32) -> String {
    let (dead, published) = (tally.dead, tally.published());
    format!("canary step {}: {dead} of {published} died again, more than {max_percent}%", step + 1)
}

fn no_outcome_in_time(step: i32, tally: &Tally, wait: Duration) -> String {
    let (waiting, published, wait_s) = (tally.in_progress, tally.published(), wait.as_secs());
    format!("canary step {}: {waiting} of {published} still in progress after {wait_s} s", step + 1)
}

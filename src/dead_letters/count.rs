//! Counts the dead letters in the table, for the metric.

use std::sync::Arc;
use std::time::Duration;

use crate::db::Database;
use crate::db::dead_letters::{self, Tally};
use crate::domain::dead_letter::State;
use crate::domain::outcome::DeadReason;
use crate::lifecycle::Beat;
use crate::metrics::Metrics;

/// Between two counts. An index answers them; more often would only read it more often.
const COUNT_EVERY: Duration = Duration::from_secs(15);

/// Counts for as long as it is let. While PostgreSQL is away the last numbers stand.
pub async fn count_dead_letters(db: Database, metrics: Arc<Metrics>, beat: Arc<Beat>) {
    loop {
        beat.beat();
        match dead_letters::tally(&db).await {
            Ok(tallies) => metrics.dead_letters(|state, reason| of(&tallies, state, reason)),
            Err(error) => tracing::debug!(%error, "cannot count dead letters"),
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

fn of(tallies: &[Tally], state: State, reason: DeadReason) -> i64 {
    let is_it = |tally: &&Tally| tally.state == state.as_str() && tally.reason == reason.as_str();
    tallies.iter().find(is_it).map_or(0, |tally| tally.dead_letters)
}

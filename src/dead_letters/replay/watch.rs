//! The daemon's part in replays: it finds out what became of them, and counts.

use std::sync::Arc;
use std::time::Duration;

use crate::db::{Database, Error, replay};
use crate::domain::ids::AppId;
use crate::lifecycle::Beat;
use crate::metrics::Metrics;
use crate::pipeline::LaneWatch;

/// Between two looks: an operator who waits for an outcome sees it soon, and an idle database hardly notices.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between two pages of one look, so that fifty thousand dead letters under way do not keep the database busy.
const BETWEEN_PAGES: Duration = Duration::from_millis(50);

/// Follows all replays: dead letters that came to their end are written down, each once however many daemons look.
pub struct Watch {
    pub db: Database,
    pub metrics: Arc<Metrics>,
    pub lane_watch: Arc<LaneWatch>,
}

impl Watch {
    /// Runs forever.
    pub async fn run(self, beat: Arc<Beat>) {
        loop {
            beat.beat();
            if let Err(error) = self.look(&beat).await {
                // Readiness reports a database that is away, or that lacks a migration.
                tracing::debug!(%error, "cannot read the outcomes of replays");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self, beat: &Beat) -> Result<(), Error> {
        for end in replay::ends(&self.db).await? {
            self.metrics.replay_ended(&end);
        }
        let mut after = None;
        loop {
            beat.beat();
            let page = replay::settle_page(&self.db, after).await?;
            for ended in &page.ended {
                self.metrics.dead_letter_replayed(&ended.outcome);
            }
            // The command fills lanes behind our back; unless told, the lane watch could take a while to look.
            for app_id in page.apps.iter().filter_map(|app_id| AppId::parse(app_id).ok()) {
                self.lane_watch.lane_is_filled(&app_id);
            }
            after = page.after;
            if after.is_none() {
                return Ok(());
            }
            tokio::time::sleep(BETWEEN_PAGES).await;
        }
    }
}

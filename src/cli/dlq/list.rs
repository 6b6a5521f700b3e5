//! `dlq list`: dead letters, newest first, page by page.

use anyhow::Result;
use clap::Args;

use super::filter::Which;
use crate::cli::output::{Format, Masking, note, or_dash, time};
use crate::cli::{Exit, database, mask};
use crate::config::Config;
use crate::db::dead_letters;
use crate::domain::dead_letter::DeadLetter;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wechat-notifier dlq list --reason content --since 1d --json")]
pub struct List {
    /// Maximum number of dead letters
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
    /// Show the next page: dead letters older than this one, the last of the previous page
    #[arg(long, value_name = "ID")]
    after: Option<i64>,
    #[command(flatten)]
    masking: Masking,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    which: Which,
}

impl List {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let filter = self.which.filter();
        let mut found = dead_letters::list(&database::open(config)?, &filter, self.after, self.limit).await?;
        found.iter_mut().for_each(|archived| mask::dead_letter(self.masking, archived));
        let header =
            ["id", "reason", "errcode", "field", "app", "event", "recipient", "group", "state", "archived"];
        self.format.list(&found, header, |archived| {
            let DeadLetter { reason, errcode, field, about, .. } = &archived.dead_letter;
            [
                archived.id.to_string(),
                reason.to_string(),
                or_dash(*errcode),
                or_dash(field.as_ref()),
                or_dash(about.app_id.as_ref()),
                or_dash(about.event_id.as_ref()),
                or_dash(about.recipient.as_ref()),
                archived.fingerprint.clone(),
                archived.state.clone(),
                time(archived.archived_at),
            ]
        })?;
        if let Some(last) = found.last().filter(|_| found.len() as i64 == self.limit) {
            note!("there may be more: use --after {} for the next page", last.id);
        }
        Ok(Exit::Done)
    }
}

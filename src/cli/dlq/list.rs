//! `dlq list`: dead letters, newest first, page by page.

use anyhow::Result;
use clap::Args;

use super::{Which, mask};
use crate::cli::output::{Format, Masking, note, or_dash, time};
use crate::cli::{Exit, database};
use crate::config::Config;
use crate::db::dead_letters;

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
        let mut found = dead_letters::list(&database(config)?, &filter, self.after, self.limit).await?;
        found.iter_mut().for_each(|dead_letter| mask(self.masking, dead_letter));
        let header =
            ["id", "reason", "errcode", "field", "app", "event", "recipient", "group", "state", "archived"];
        self.format.list(&found, header, |dead_letter| {
            [
                dead_letter.id.to_string(),
                dead_letter.reason.clone(),
                or_dash(dead_letter.errcode),
                or_dash(dead_letter.field.as_ref()),
                or_dash(dead_letter.app_id.as_ref()),
                or_dash(dead_letter.event_id.as_ref()),
                or_dash(dead_letter.recipient.as_ref()),
                dead_letter.fingerprint.clone(),
                dead_letter.state.clone(),
                time(dead_letter.archived_at),
            ]
        })?;
        if let Some(last) = found.last().filter(|_| found.len() as i64 == self.limit) {
            note!("there may be more: use --after {} for the next page", last.id);
        }
        Ok(Exit::Done)
    }
}

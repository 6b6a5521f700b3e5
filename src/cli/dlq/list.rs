//! `dlq list`: letters, newest first, page by page.

use anyhow::Result;
use clap::Args;

use super::{Which, mask};
use crate::cli::output::{Format, Masking, note, or_dash, time};
use crate::cli::{Exit, database};
use crate::config::Config;
use crate::db::letters;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wechat-notifier dlq list --reason content --since 1d --json")]
pub struct List {
    /// At most this many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
    /// The next page: only those older than this letter, the last one of the page before
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
        let mut found = letters::list(&database(config)?, &filter, self.after, self.limit).await?;
        found.iter_mut().for_each(|letter| mask(self.masking, letter));
        let header =
            ["id", "reason", "errcode", "field", "app", "event", "recipient", "group", "state", "archived"];
        self.format.list(&found, header, |letter| {
            [
                letter.id.to_string(),
                letter.reason.clone(),
                or_dash(letter.errcode),
                or_dash(letter.field.as_ref()),
                or_dash(letter.app_id.as_ref()),
                or_dash(letter.event_id.as_ref()),
                or_dash(letter.recipient.as_ref()),
                letter.fingerprint.clone(),
                letter.state.clone(),
                time(letter.archived_at),
            ]
        })?;
        if let Some(last) = found.last().filter(|_| found.len() as i64 == self.limit) {
            note!("there may be more: --after {} shows the next page", last.id);
        }
        Ok(Exit::Done)
    }
}

//! `dlq purge`: permanently deletes bodies, headers and names of old dead letters.

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::filter::{Which, dead_letters_in_words};
use crate::cli::confirm::Confirming;
use crate::cli::operator::operator;
use crate::cli::output::{Format, note, time};
use crate::cli::{Exit, database, span};
use crate::config::Config;
use crate::db::dead_letters::{self, Act, Closing, Filter};

#[derive(Debug, Args)]
#[command(
    after_help = "Body, headers and recipient of the dead letters are deleted permanently; the row without content stays. Open dead letters \
are purged only with --state open, those in an unfinished replay never. Needs a confirmation, or --yes.\n\n\
Example:\n  wechat-notifier dlq purge --state resolved --older-than 90d --why \"kept for a quarter\""
)]
pub struct Purge {
    /// Only dead letters archived longer ago than this, e.g. 90d, or before a timestamp
    #[arg(long, value_name = "TIME", value_parser = span::since)]
    older_than: Timestamp,
    /// The reason, recorded in `dlq history`
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    #[command(flatten)]
    confirming: Confirming,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    which: Which,
}

impl Purge {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let asked = self.which.filter();
        if asked == Filter::default() {
            note!("choose the dead letters with a filter, e.g. --state resolved: age alone is not enough");
            return Ok(Exit::Usage);
        }
        let until = asked.until.map_or(self.older_than, |until| until.min(self.older_than));
        let filter = Filter { until: Some(until), ..asked };
        let db = database::open(config)?;
        let (count, cut_off) = dead_letters::count(&db, Closing::Purge, &filter).await?;
        if count == 0 {
            note!("no dead letter matches; open ones need --state open");
            return Ok(Exit::FoundNothing);
        }
        let question = format!(
            "Permanently delete the content of {} archived before {}?",
            dead_letters_in_words(count),
            time(until)
        );
        if !self.confirming.confirm(&question)? {
            note!("nothing was changed");
            return Ok(Exit::Failed);
        }
        let act = Act { closing: Closing::Purge, operator: operator(), why: self.why, filter, cut_off };
        let purged = dead_letters::close(&db, &act).await?;
        self.format
            .one(&json!({ "purged": purged }), |_| format!("purged {}", dead_letters_in_words(purged)))?;
        Ok(Exit::Done)
    }
}

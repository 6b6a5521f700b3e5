//! `dlq resolve`: closes dead letters, with a reason.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::filter::{Which, dead_letters_in_words};
use crate::cli::confirm::Confirming;
use crate::cli::operator::operator;
use crate::cli::output::{Format, note};
use crate::cli::{Exit, database};
use crate::config::Config;
use crate::db::dead_letters::{self, Act, Closing};
use crate::domain::dead_letter::State;

#[derive(Debug, Args)]
#[command(
    after_help = "Only open dead letters are resolved; more than one needs a confirmation, or --yes.\n\n\
Example:\n  wechat-notifier dlq resolve --group 3fa9 --why \"orders were cancelled, no message is needed\""
)]
pub struct Resolve {
    /// Why no further action is needed; recorded in `dlq history`
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    why: String,
    #[command(flatten)]
    confirming: Confirming,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    which: Which,
}

impl Resolve {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let filter = self.which.filter();
        if !filter.narrows() {
            note!("choose the dead letters with a filter: --id, --group, --reason or another");
            return Ok(Exit::Usage);
        }
        if filter.state.as_deref().is_some_and(|state| state != State::Open.as_str()) {
            note!("only open dead letters can be resolved");
            return Ok(Exit::Usage);
        }
        let db = database::open(config)?;
        let (count, cut_off) = dead_letters::count(&db, Closing::Resolve, &filter).await?;
        if count == 0 {
            note!("no open dead letter matches");
            return Ok(Exit::FoundNothing);
        }
        if count > 1 && !self.confirming.confirm(&format!("Resolve {}?", dead_letters_in_words(count)))? {
            note!("nothing was changed");
            return Ok(Exit::Failed);
        }
        let act =
            Act { closing: Closing::Resolve, operator: operator(), why: Some(self.why), filter, cut_off };
        let resolved = dead_letters::close(&db, &act).await?;
        self.format.one(&json!({ "resolved": resolved }), |_| {
            format!("resolved {}", dead_letters_in_words(resolved))
        })?;
        Ok(Exit::Done)
    }
}

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

//! `dlq list|show`: the archive of dead letters.

mod filter;
mod history;
mod replay;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

pub use self::filter::Which;
use super::output::{Format, Masking, or_dash, time};
use super::{Exit, database};
use crate::config::Config;
use crate::db::letters::{self, Found, Whole};

#[derive(Debug, Subcommand)]
pub enum Dlq {
    /// List dead letters, newest first
    List(Box<List>),
    /// Show one dead letter
    Show(Show),
    /// Bring letters back
    Replay(Box<replay::Replay>),
    /// Who replayed what, when and why, and what became of it
    History(history::History),
}

impl Dlq {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        match self {
            Self::List(command) => command.execute(config).await,
            Self::Show(command) => command.execute(config).await,
            Self::Replay(command) => command.execute(config).await,
            Self::History(command) => command.execute(config).await,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wechat-notifier dlq list --reason content --since 1d --json")]
pub struct List {
    /// At most this many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
    /// Only those older than this letter: the last id of the page before
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
    async fn execute(self, config: &Config) -> Result<Exit> {
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
        Ok(Exit::Done)
    }
}

/// Hides the openids of a letter, unless they are wanted.
pub fn mask(masking: Masking, letter: &mut Found) {
    letter.recipient = letter.recipient.as_deref().map(|recipient| masking.recipient(recipient));
    letter.openid = letter.openid.as_deref().map(|openid| masking.openid(openid));
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wechat-notifier dlq show 17 --full")]
pub struct Show {
    /// The id that `dlq list` shows
    id: i64,
    #[command(flatten)]
    masking: Masking,
    #[command(flatten)]
    format: Format,
}

impl Show {
    async fn execute(self, config: &Config) -> Result<Exit> {
        let Some(mut letter) = letters::show(&database(config)?, self.id).await? else {
            eprintln!("there is no letter {}", self.id);
            return Ok(Exit::FoundNothing);
        };
        mask(self.masking, &mut letter.found);
        self.format.one(&as_json(letter, self.masking)?, as_text)?;
        Ok(Exit::Done)
    }
}

/// Everything about the letter. Body and headers may name people, so they stay out unless they are wanted.
fn as_json(letter: Whole, masking: Masking) -> Result<Value> {
    let mut value = serde_json::to_value(&letter.found)?;
    value["trace_id"] = json!(letter.trace_id);
    value["rid"] = json!(letter.rid);
    value["body_bytes"] = json!(letter.body.len());
    if masking.is_off() {
        value["headers"] = letter.headers;
        value["body"] = json!(String::from_utf8_lossy(&letter.body));
    }
    Ok(value)
}

/// One line a field, those without a value left out; the body last, as received.
fn as_text(letter: &Value) -> String {
    let fields = letter.as_object().into_iter().flatten();
    let line = |(name, value): (&String, &Value)| match value {
        Value::Null => None,
        Value::String(text) => Some(format!("{name}: {text}")),
        other => Some(format!("{name}: {other}")),
    };
    let mut lines: Vec<String> = fields.filter(|(name, _)| *name != "body").filter_map(line).collect();
    lines.push(letter["body"].as_str().map_or_else(
        || "body and headers: shown with --full (they may name people)".to_owned(),
        |body| format!("body:\n{body}"),
    ));
    lines.join("\n")
}

//! `dlq history`: what operators did with dead letters.

use std::cmp::Reverse;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::cli::output::{Format, Masking, note, or_dash, time};
use crate::cli::{Exit, database};
use crate::config::Config;
use crate::db::dead_letters::{self, Closed};
use crate::db::replay::{self, Account, Fate};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wechat-notifier dlq history\n  wechat-notifier dlq history --id 3 --json"
)]
pub struct History {
    /// Show the outcome of each dead letter of this replay
    #[arg(long, value_name = "REPLAY")]
    id: Option<i64>,
    /// Maximum number of entries
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
    /// Continue after this dead letter, the last one of the previous page
    #[arg(long, value_name = "DEAD_LETTER", default_value_t = 0, requires = "id")]
    after: i64,
    #[command(flatten)]
    masking: Masking,
    #[command(flatten)]
    format: Format,
}

/// One act, by an operator or by the configured retention.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Replay(Account),
    Closed(Closed),
}

impl History {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let db = database::open(config)?;
        let Some(id) = self.id else {
            let replays = replay::history(&db, self.limit).await?.into_iter().map(Entry::Replay);
            let closings = dead_letters::acts(&db, self.limit).await?.into_iter().map(Entry::Closed);
            self.list(replays.chain(closings).collect())?;
            return Ok(Exit::Done);
        };
        let Some(account) = replay::account(&db, id).await? else {
            note!("replay {id} does not exist");
            return Ok(Exit::FoundNothing);
        };
        let mut fates = replay::fates(&db, id, self.after, self.limit).await?;
        for fate in &mut fates {
            fate.recipient = fate.recipient.as_deref().map(|recipient| self.masking.recipient(recipient));
        }
        let mut whole = serde_json::to_value(&account)?;
        whole["fates"] = json!(fates);
        self.format.one(&whole, |_| as_text(&account, &fates))?;
        Ok(Exit::Done)
    }

    fn list(&self, mut entries: Vec<Entry>) -> Result<()> {
        entries.sort_by_key(|entry| Reverse(entry.at()));
        entries.truncate(usize::try_from(self.limit).unwrap_or(usize::MAX));
        let header =
            ["replay", "at", "operator", "why", "filter", "state", "dead letters", "refused", "outcomes"];
        self.format.list(&entries, header, Entry::row)
    }
}

impl Entry {
    fn at(&self) -> Timestamp {
        match self {
            Self::Replay(account) => account.created_at,
            Self::Closed(closed) => closed.at,
        }
    }

    fn row(&self) -> [String; 9] {
        match self {
            Self::Replay(account) => [
                account.replay.to_string(),
                time(account.created_at),
                account.operator.clone(),
                or_dash(account.why.as_ref()),
                account.filter.to_string(),
                account.state.clone(),
                account.dead_letters.to_string(),
                account.refused.to_string(),
                outcomes(account),
            ],
            Self::Closed(closed) => [
                "-".to_owned(),
                time(closed.at),
                closed.operator.clone(),
                or_dash(closed.why.as_ref()),
                closed.filter.to_string(),
                closed.action.clone(),
                closed.dead_letters.to_string(),
                "-".to_owned(),
                "-".to_owned(),
            ],
        }
    }
}

fn outcomes(account: &Account) -> String {
    let counted = account.outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}"));
    counted.collect::<Vec<_>>().join(", ")
}

fn as_text(account: &Account, fates: &[Fate]) -> Vec<String> {
    let mut lines = super::replay::account(account);
    lines.push(format!("filter: {}", account.filter));
    for fate in fates {
        let reason = fate.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let later = fate.later_dead_letter.map(|later| format!(", dead letter {later}")).unwrap_or_default();
        let event = or_dash(fate.event_id.as_ref());
        let recipient = or_dash(fate.recipient.as_ref());
        lines.push(format!(
            "dead letter {}: {event} to {recipient}: {}{reason}{later}",
            fate.dead_letter, fate.outcome
        ));
    }
    lines
}

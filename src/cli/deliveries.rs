//! `deliveries list|why|close`: what became of events.

mod at_broker;
mod close;
mod explain;
mod no_delivery;
mod reasons;
mod why;

use anyhow::Result;
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::output::{Format, Masking, or_dash, time};
use super::{Exit, database, mask, span};
use crate::config::Config;
use crate::db::ledger::browse::{self, Filter};
use crate::domain::outcome::{DeadReason, SkipReason};
use crate::domain::protocol::Status;
pub use explain::{EventHistory, of_dead_letter};

#[derive(Debug, Subcommand)]
pub enum Deliveries {
    /// List deliveries from the ledger, newest first
    List(List),
    /// Explain what became of one event: who got it, who did not, and why
    Why(why::Why),
    /// Give up stranded deliveries, which no message can finish
    Close(close::Close),
}

impl Deliveries {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        match self {
            Self::List(command) => command.execute(config).await,
            Self::Why(command) => command.execute(config).await,
            Self::Close(command) => command.execute(config).await,
        }
    }
}

/// Longer than a claim's lease and than any wait that the row's due time does not include.
const STRANDED_AFTER_S: f64 = 600.0;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wechat-notifier deliveries list --status skipped --since 2h --json")]
pub struct List {
    /// Only of this event
    #[arg(long, value_name = "EVENT_ID")]
    event: Option<String>,
    /// Only of this company
    #[arg(long, value_name = "COMPANY_NO")]
    company: Option<String>,
    /// Only of this app
    #[arg(long, alias = "app-id", value_name = "APPID")]
    app: Option<String>,
    /// Only of this template
    #[arg(long, alias = "template-id", value_name = "TEMPLATE")]
    template: Option<String>,
    /// planned, attempting, retrying, sent, skipped or dead
    #[arg(long, value_parser = Status::ALL.iter().map(|status| status.as_str()).collect::<Vec<_>>())]
    status: Option<String>,
    /// Reason for the skip or dead letter, e.g. not_bound
    #[arg(long, value_parser = reason_words())]
    reason: Option<String>,
    /// A business user or an openid
    #[arg(long, alias = "sys-user", alias = "openid")]
    user: Option<String>,
    /// Only since this time: a duration such as 2h or 3d, or a timestamp
    #[arg(long, value_name = "TIME", value_parser = span::since)]
    since: Option<Timestamp>,
    /// Only unfinished deliveries that are overdue by ten minutes. Their message may still wait in a lane or for the end of an
    /// outage; if all queues are empty they are stranded, and `deliveries close` gives them up
    #[arg(long)]
    stranded: bool,
    /// Maximum number of deliveries
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
    #[command(flatten)]
    masking: Masking,
    #[command(flatten)]
    format: Format,
}

fn reason_words() -> Vec<&'static str> {
    let skipped = SkipReason::ALL.iter().map(|reason| reason.as_str());
    skipped.chain(DeadReason::ALL.iter().map(|reason| reason.as_str())).collect()
}

impl List {
    async fn execute(self, config: &Config) -> Result<Exit> {
        let (masking, format) = (self.masking, self.format);
        let mut deliveries = browse::list(&database::open(config)?, &self.into_filter()).await?;
        deliveries.iter_mut().for_each(|delivery| mask::ledger_row(masking, delivery));
        let header = [
            "id",
            "event",
            "recipient",
            "business user",
            "status",
            "reason",
            "errcode",
            "attempts",
            "unknown",
            "since",
        ];
        format.list(&deliveries, header, |delivery| {
            [
                delivery.id.to_string(),
                delivery.key.event_id.clone(),
                delivery.key.recipient.clone(),
                or_dash(delivery.sys_user_id.as_ref()),
                delivery.status.clone(),
                or_dash(delivery.reason.as_ref()),
                or_dash(delivery.errcode),
                delivery.attempts.to_string(),
                delivery.unknowns.to_string(),
                time(delivery.settled_at.unwrap_or(delivery.created_at)),
            ]
        })?;
        Ok(Exit::Done)
    }

    fn into_filter(self) -> Filter {
        Filter {
            company_no: self.company,
            event_id: self.event,
            app_id: self.app,
            template_id: self.template,
            status: self.status,
            reason: self.reason,
            recipient: None,
            user: self.user,
            since: self.since,
            stranded_s: self.stranded.then_some(STRANDED_AFTER_S),
            limit: self.limit,
        }
    }
}

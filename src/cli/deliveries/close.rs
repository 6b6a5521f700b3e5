//! `deliveries close`: gives up stranded rows, which have no message any more.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use crate::amqp::{Broker, Topology};
use crate::cli::confirm::Confirming;
use crate::cli::operator::operator;
use crate::cli::output::{Format, note};
use crate::cli::{Exit, database, span};
use crate::clock;
use crate::config::Config;
use crate::db::dead_letters::{self, Choice, Received, Stranded};
use crate::dead_letters::{Kept, dead_letter_of_stranded};
use crate::domain::event::{Arrival, Event};
use crate::lifecycle::Tasks;

/// A healthy broker takes well under a second.
const BROKER_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  wechat-notifier deliveries close --stranded --why \"the queue was purged on Monday\"
  wechat-notifier deliveries close --id 4711 --event-file event.json --why \"restored an old broker\"

Each becomes a dead letter `stranded`. The ledger keeps no content: the dead letter can be replayed only with --event-file,
the event as it was published. More than one row needs a confirmation, or --yes.")]
#[command(group(clap::ArgGroup::new("which").required(true)))]
pub struct Close {
    /// All unfinished deliveries that have not moved for too long
    #[arg(long, group = "which")]
    stranded: bool,
    /// Only this delivery, by its id in `deliveries list --stranded`; may be given several times
    #[arg(long, group = "which", value_name = "ID")]
    id: Vec<i64>,
    /// Only deliveries of this event
    #[arg(long, value_name = "EVENT_ID")]
    event: Option<String>,
    /// The event as it was published, so that the dead letters can be replayed
    #[arg(long, value_name = "FILE")]
    event_file: Option<PathBuf>,
    /// Minimum time without movement [default: longer than any message can be under way with this configuration]
    #[arg(long, value_name = "SPAN", value_parser = span::since)]
    unmoved_for: Option<Timestamp>,
    /// What happened; recorded in the dead letters
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    why: String,
    #[command(flatten)]
    confirming: Confirming,
    #[command(flatten)]
    format: Format,
}

impl Close {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let db = database::open(config)?;
        let unmoved_for = self.unmoved_for(config);
        let choice = Choice {
            ids: (!self.stranded).then(|| self.id.clone()),
            event_id: self.event.clone(),
            unmoved_for_s: unmoved_for.as_secs_f64(),
        };
        let found = dead_letters::stranded(&db, &choice).await?;
        if found.is_empty() {
            note!("no such delivery is unfinished without movement for {} s", unmoved_for.as_secs());
            return Ok(Exit::FoundNothing);
        }
        lanes_are_empty(config, &found).await?;
        let found = self.with_dead_letters(found, config)?;
        let question = format!("Give up {} deliveries as stranded?", found.len());
        if found.len() > 1 && !self.confirming.confirm(&question)? {
            note!("nothing was changed");
            return Ok(Exit::Failed);
        }
        let closed = dead_letters::close_stranded(&db, &found, choice.unmoved_for_s).await?;
        self.format.one(&json!({ "closed": closed }), |_| format!("closed {closed} deliveries"))?;
        Ok(Exit::Done)
    }

    fn unmoved_for(&self, config: &Config) -> Duration {
        match self.unmoved_for {
            Some(since) => clock::now().duration_since(since).unsigned_abs(),
            None => config.moved_within(),
        }
    }

    fn with_dead_letters(&self, found: Vec<Stranded>, config: &Config) -> Result<Vec<(Stranded, Received)>> {
        let said = format!("closed by {}: {}", operator(), self.why);
        let Some(path) = &self.event_file else {
            let now = clock::now();
            let with_dead_letter =
                |row: Stranded| (row.clone(), dead_letter_of_stranded(&row, None, &said, now));
            return Ok(found.into_iter().map(with_dead_letter).collect());
        };
        let body = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        found.into_iter().map(|row| with_event(row, &body, &said, config)).collect()
    }
}

fn with_event(stranded: Stranded, body: &[u8], said: &str, config: &Config) -> Result<(Stranded, Received)> {
    let arrival = Arrival {
        message_id: Some(&stranded.row.key.event_id),
        timestamp: None,
        // An event without an end of its own is as old as its row.
        first_seen: stranded.row.created_at,
        default_ttl: config.delivery.default_ttl,
    };
    let event = Event::decode(body, &arrival)?;
    let kept = Kept { event: &event, body };
    if !kept.is_of(&stranded) {
        let id = stranded.row.id;
        bail!("delivery {id} belongs to another event than the file, or to other content of it");
    }
    let dead_letter = dead_letter_of_stranded(&stranded, Some(kept), said, clock::now());
    Ok((stranded, dead_letter))
}

/// Messages wait in a lane while its app is paused: no row of such an app is known to be stranded.
async fn lanes_are_empty(config: &Config, found: &[Stranded]) -> Result<()> {
    let topology = Topology::new(&config.amqp.prefix, &config.retry.delays);
    let mut lanes = Vec::new();
    for Stranded { row, .. } in found {
        let lane = topology.lane(&row.key.app_id.parse().context("the ledger has an invalid app_id")?);
        if !lanes.contains(&lane) {
            lanes.push(lane);
        }
    }
    let broker = Broker::start(&config.amqp, topology, &Tasks::default())?;
    broker.ready(BROKER_PATIENCE).await?;
    let depths = broker.depths(&lanes).await;
    broker.close().await;
    match depths?.into_iter().find(|(_, messages)| *messages > 0) {
        Some((lane, messages)) => {
            bail!("{messages} messages wait in {lane}; they may belong to these deliveries")
        }
        None => Ok(()),
    }
}

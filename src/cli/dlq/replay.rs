//! `dlq replay`: sends dead letters again, under control.

mod options;
mod progress;
mod report;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args};

use self::options::Options;
use self::progress::Progress;
pub use self::report::account;
use super::filter::Which;
use crate::amqp::{Broker, Topology};
use crate::cli::confirm::Confirming;
use crate::cli::output::{Format, aside, note};
use crate::cli::{Exit, database};
use crate::config::Config;
use crate::db::Database;
use crate::db::replay::{self, Held, Order};
use crate::dead_letters::replay::{Replayer, Terms, preview};
use crate::domain::replay::State;
use crate::failpoint::crash_point;
use crate::lifecycle::Tasks;

/// A healthy broker takes well under a second.
const BROKER_PATIENCE: Duration = Duration::from_secs(10);
/// PostgreSQL notices within this time that a killed command is gone.
const KILLED_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("control").args(["resume", "pause", "cancel", "status"]))]
#[command(after_help = "Examples:
  wechat-notifier dlq replay --reason content --template TEMPLATE --dry-run
  wechat-notifier dlq replay --group 3f2a --canary 1,5,50 --why 'template fixed, INC-1742'
  wechat-notifier dlq replay --id 17 --body corrected.json
  wechat-notifier dlq replay --resume 3

The set is fixed before anything is published and never grows. The command can be killed at any point: --resume continues,
and each dead letter is replayed once. Exit code 1: the replay stopped before its end; 3: there was nothing to replay.")]
pub struct Replay {
    /// Only show what would be sent and what would be refused
    #[arg(long, conflicts_with = "control")]
    dry_run: bool,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    confirming: Confirming,
    /// Continue a replay that was killed, paused or stopped
    #[arg(long, value_name = "REPLAY", help_heading = "Existing replays")]
    resume: Option<i64>,
    /// Pause a replay; its command ends
    #[arg(long, value_name = "REPLAY", help_heading = "Existing replays")]
    pause: Option<i64>,
    /// Cancel a replay; dead letters that are not published yet return to state open
    #[arg(long, value_name = "REPLAY", help_heading = "Existing replays")]
    cancel: Option<i64>,
    /// Show the status of a replay
    #[arg(long, value_name = "REPLAY", help_heading = "Existing replays")]
    status: Option<i64>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    which: Which,
}

impl Replay {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let db = database::open(config)?;
        match (self.resume, self.pause, self.cancel, self.status) {
            (Some(id), ..) => self.resume(config, &db, id).await,
            (_, Some(id), ..) => self.move_on(&db, id, State::Paused).await,
            (_, _, Some(id), _) => self.move_on(&db, id, State::Cancelled).await,
            (.., Some(id)) => self.tell(&db, id).await,
            _ => self.begin(config, &db).await,
        }
    }

    async fn begin(self, config: &Config, db: &Database) -> Result<Exit> {
        let terms = terms(config);
        let cut_off = replay::cut_off(db).await?;
        let order = self.options.order(self.which.filter(), cut_off, &terms)?;
        options::check_edited(db, &order).await?;
        let preview = preview(db, &order, &terms).await?;
        if self.dry_run {
            self.format.one(&preview, report::preview)?;
            return Ok(if preview.going == 0 { Exit::FoundNothing } else { Exit::Done });
        }
        if preview.going == 0 {
            aside(report::preview(&preview));
            return Ok(Exit::FoundNothing);
        }
        if let Some(exit) = options::confirmed(&preview, &order, self.confirming)? {
            return Ok(exit);
        }
        // Connect before the set is fixed: without a broker nothing can be replayed.
        let broker = connect(config).await?;
        let Some(fixed) = replay::fix_set(db, &order).await? else {
            broker.close().await;
            return overtaken(db, &order, &terms).await;
        };
        crash_point("replay_set_fixed");
        note!(
            "replay {}: {} dead letters; --resume {} continues if this is killed",
            fixed.id,
            fixed.dead_letters,
            fixed.id
        );
        self.work(db, broker, terms, fixed.id).await
    }

    async fn resume(&self, config: &Config, db: &Database, id: i64) -> Result<Exit> {
        let Some(standing) = replay::standing(db, id).await? else { return Ok(unheard_of(id)) };
        if !standing.state.is_unfinished() {
            note!("replay {id} is {}", standing.state.as_str());
            return self.tell(db, id).await;
        }
        self.work(db, connect(config).await?, terms(config), id).await
    }

    /// Publishes until the end or until it is stopped; then shows the status.
    async fn work(&self, db: &Database, broker: Broker, terms: Terms, id: i64) -> Result<Exit> {
        let _held = held(db, id).await?;
        replay::resume(db, id).await?;
        let (publisher, topology) = (broker.publisher(), broker.topology().clone());
        let replayer = Replayer { db: db.clone(), publisher, topology, terms };
        let mut progress = Progress::new();
        let ended = replayer.run(id, |standing| progress.tell(standing)).await;
        progress.end();
        broker.close().await;
        let state = ended.with_context(|| format!("replay {id} is not finished; --resume {id} continues"))?;
        self.tell(db, id).await?;
        Ok(if state == State::Stopped { Exit::Failed } else { Exit::Done })
    }

    async fn move_on(&self, db: &Database, id: i64, to: State) -> Result<Exit> {
        if replay::standing(db, id).await?.is_none() {
            return Ok(unheard_of(id));
        }
        let moved = replay::move_on(db, id, to, None).await?;
        if !moved {
            note!("replay {id} is not running; nothing was changed");
        }
        self.tell(db, id).await?;
        Ok(if moved { Exit::Done } else { Exit::Failed })
    }

    async fn tell(&self, db: &Database, id: i64) -> Result<Exit> {
        let Some(account) = replay::account(db, id).await? else { return Ok(unheard_of(id)) };
        self.format.one(&account, report::account)?;
        Ok(Exit::Done)
    }
}

/// Another operator has taken every dead letter in the meantime.
async fn overtaken(db: &Database, order: &Order, terms: &Terms) -> Result<Exit> {
    note!("nothing is left to replay");
    aside(report::preview(&preview(db, order, terms).await?));
    Ok(Exit::FoundNothing)
}

/// The lock that lets one command at a time publish.
async fn held(db: &Database, id: i64) -> Result<Held> {
    let give_up = Instant::now() + KILLED_PATIENCE;
    loop {
        match replay::hold(db, id).await? {
            Some(held) => return Ok(held),
            None if Instant::now() >= give_up => {
                bail!("another command is working on replay {id}; --pause {id} stops it")
            }
            None => tokio::time::sleep(KILLED_PATIENCE / 20).await,
        }
    }
}

async fn connect(config: &Config) -> Result<Broker> {
    let topology = Topology::new(&config.amqp.prefix, &config.retry.delays);
    let broker = Broker::start(&config.amqp, topology, &Tasks::default())?;
    broker.ready(BROKER_PATIENCE).await?;
    // A broker in alarm accepts connections, and would then let every dead letter wait.
    broker.publisher().probe().await?;
    Ok(broker)
}

fn terms(config: &Config) -> Terms {
    Terms { default_ttl: config.delivery.default_ttl, max_body_bytes: config.amqp.max_body_bytes }
}

fn unheard_of(id: i64) -> Exit {
    note!("replay {id} does not exist");
    Exit::FoundNothing
}

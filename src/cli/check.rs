//! `check`: tests every dependency and every app's credentials.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use futures_util::{StreamExt, stream};
use serde::Serialize;

use super::output::Format;
use super::pauses::{distinct, in_full};
use super::{Exit, credentials};
use crate::amqp::{Broker, Topology};
use crate::cli::database;
use crate::config::Config;
use crate::db::migrate::{self, MigrateError};
use crate::db::registry::apps::{self, AppRow};
use crate::db::registry::pauses;
use crate::db::registry::sealing;
use crate::db::{self, Database, probe};
use crate::lifecycle::Tasks;
use crate::wechat::Client;

/// A healthy broker takes well under a second; an operator does not wait much longer for a table.
const BROKER_PATIENCE: Duration = Duration::from_secs(10);
/// Token fetches at once. More would only hit WeChat's limit per minute.
const FETCHES_AT_ONCE: usize = 4;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wechat-notifier check || echo 'not ready: exit code 3'\n\n\
Declares the queues and fetches a token for each enabled app, as `run` does.")]
pub struct Check {
    #[command(flatten)]
    format: Format,
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    state: State,
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Failed,
}

impl Finding {
    fn new(what: impl Into<String>, state: State, detail: impl Into<String>) -> Self {
        Self { what: what.into(), state, detail: detail.into() }
    }

    fn of<T, E: std::fmt::Display>(
        what: impl Into<String>,
        tried: Result<T, E>,
        detail: impl FnOnce(T) -> String,
    ) -> Self {
        match tried {
            Ok(value) => Self::new(what, State::Ok, detail(value)),
            Err(fault) => Self::new(what, State::Failed, fault.to_string()),
        }
    }
}

impl Check {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let mut findings = vec![Finding::new("configuration", State::Ok, config.read_from())];
        let warnings = config.warnings().into_iter();
        findings.extend(warnings.map(|text| Finding::new("configuration", State::Warning, text)));
        let db = database::open(config)?;
        let (broker, mut rest) = tokio::join!(broker(config), database_and_apps(&db, config));
        findings.push(broker);
        findings.append(&mut rest);

        self.format.list(&findings, ["what", "state", "detail"], |finding| {
            let state = match finding.state {
                State::Ok => "ok",
                State::Warning => "warning",
                State::Failed => "FAILED",
            };
            [finding.what.clone(), state.to_owned(), finding.detail.clone()]
        })?;
        let failed = findings.iter().any(|finding| finding.state == State::Failed);
        Ok(if failed { Exit::NotHealthy } else { Exit::Done })
    }
}

async fn broker(config: &Config) -> Finding {
    let topology = Topology::new(&config.amqp.prefix, &config.retry.delays);
    let broker = match Broker::start(&config.amqp, topology, &Tasks::default()) {
        Ok(broker) => broker,
        Err(fault) => return Finding::new("broker", State::Failed, fault.to_string()),
    };
    let usable = usable(&broker).await;
    broker.close().await;
    Finding::of("broker", usable, |()| "connected, accepts messages, queues are as expected".to_owned())
}

/// A broker in alarm accepts everything except a publish.
async fn usable(broker: &Broker) -> Result<()> {
    broker.ready(BROKER_PATIENCE).await?;
    Ok(broker.publisher().probe().await?)
}

/// The apps are rows of the database: without it nothing can be said about them.
async fn database_and_apps(db: &Database, config: &Config) -> Vec<Finding> {
    match tables(db).await {
        Err(MigrateError::Database(fault)) => {
            vec![Finding::new("database", State::Failed, fault.to_string())]
        }
        migrations => {
            let mut findings = vec![Finding::new("database", State::Ok, "connected")];
            let is_complete =
                |states: &Vec<migrate::State>| states.iter().all(|state| state.applied_at.is_some());
            let usable = migrations.as_ref().is_ok_and(is_complete);
            findings.push(of_migrations(migrations, config));
            if usable {
                findings.push(Finding::of("ledger", probe::probe(db).await, |()| {
                    "the daemon's statements work, and a row can be written".to_owned()
                }));
                findings.extend(apps(db, config).await);
                findings.extend(pauses(db).await);
                findings.extend(secrets(db).await);
            }
            findings
        }
    }
}

/// What was applied, to tables of the right shape.
async fn tables(db: &Database) -> Result<Vec<migrate::State>, MigrateError> {
    let states = migrate::status(db).await?;
    migrate::examine(db).await?;
    Ok(states)
}

fn of_migrations(migrations: Result<Vec<migrate::State>, MigrateError>, config: &Config) -> Finding {
    let states = match migrations {
        Ok(states) => states,
        Err(fault) => return Finding::new("migrations", State::Failed, fault.to_string()),
    };
    let missing = states.iter().filter(|state| state.applied_at.is_none()).count();
    match missing {
        0 => Finding::new("migrations", State::Ok, format!("all {} applied", states.len())),
        _ if config.database.migrate_on_start => {
            Finding::new("migrations", State::Warning, format!("{missing} missing; `run` applies them"))
        }
        _ => Finding::new("migrations", State::Failed, format!("{missing} missing; `migrate` applies them")),
    }
}

async fn apps(db: &Database, config: &Config) -> Vec<Finding> {
    let client = match Client::new(&config.wechat, FETCHES_AT_ONCE) {
        Ok(client) => client,
        Err(fault) => return vec![Finding::new("wechat", State::Failed, fault.to_string())],
    };
    match active(db).await {
        Err(fault) => vec![Finding::new("apps", State::Failed, fault.to_string())],
        Ok(rows) if rows.is_empty() => {
            vec![Finding::new(
                "apps",
                State::Warning,
                "no enabled app is registered; `app add` registers one",
            )]
        }
        Ok(rows) => {
            stream::iter(&rows).map(|row| app(db, &client, row)).buffered(FETCHES_AT_ONCE).collect().await
        }
    }
}

/// A paused app fails the check, whatever its credentials; a paused template is a warning, since it stops nothing else.
async fn pauses(db: &Database) -> Vec<Finding> {
    let (active, mut paused) = match tokio::try_join!(active(db), pauses::by_app(db)) {
        Ok(found) => found,
        Err(fault) => return vec![Finding::new("pauses", State::Failed, fault.to_string())],
    };
    let of_app = |row: &AppRow| paused.remove(row.app.app_id.as_str()).unwrap_or_default();
    let found: Vec<pauses::Found> = active.iter().flat_map(of_app).collect();
    let each = found.chunk_by(|a, b| a.app_id == b.app_id).flat_map(distinct);
    each.map(|pause| match &pause.template_id {
        None => Finding::new(format!("pause of app {}", pause.app_id), State::Failed, in_full(pause)),
        Some(template) => {
            Finding::new(format!("pause of template {template}"), State::Warning, in_full(pause))
        }
    })
    .collect()
}

/// With a master key nothing should be stored in plaintext; without one the configuration's warning is enough.
async fn secrets(db: &Database) -> Option<Finding> {
    if !db.sealer().has_key() {
        return None;
    }
    let detail = match sealing::count_plain(db).await {
        Ok(0) => return Some(Finding::new("secrets", State::Ok, "all sealed")),
        Ok(plain) => format!("{plain} are stored in plaintext in the database; `app seal --all` seals them"),
        Err(fault) => return Some(Finding::new("secrets", State::Failed, fault.to_string())),
    };
    Some(Finding::new("secrets", State::Warning, detail))
}

async fn active(db: &Database) -> Result<Vec<AppRow>, db::Error> {
    let mut rows = apps::all(db).await?;
    rows.retain(|row| row.app.active);
    Ok(rows)
}

async fn app(db: &Database, client: &Client, row: &AppRow) -> Finding {
    let tried = credentials::attempt(db, client, row).await;
    Finding::of(format!("app {}", row.app.app_id), tried, |token| {
        format!("WeChat issues a token, expires in {} s", token.expires_in.as_secs())
    })
}

//! `migrate`: brings the tables to what this release expects.

use anyhow::Result;
use clap::Args;

use super::{Exit, database, output};
use crate::config::Config;
use crate::db::migrate;

/// Applies what is missing; a second run finds nothing to do. Safe to run while others do.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  DATABASE_URL=postgres://notifier@db/shop wechat-notifier migrate")]
pub struct Migrate {
    /// Only say what is missing; exit code 3 if anything is
    #[arg(long)]
    status: bool,
}

impl Migrate {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let db = database(config)?;
        if self.status { status(&db).await } else { apply(&db).await }
    }
}

async fn apply(db: &crate::db::Database) -> Result<Exit> {
    let applied = migrate::apply(db).await?;
    for state in &applied {
        output::line(&format!("applied {} {}", state.version, state.name))?;
    }
    if applied.is_empty() {
        output::line("nothing to apply")?;
    }
    Ok(Exit::Done)
}

async fn status(db: &crate::db::Database) -> Result<Exit> {
    let states = migrate::status(db).await?;
    for state in &states {
        let applied = state.applied_at.map_or_else(|| "missing".to_owned(), output::time);
        output::line(&format!("{} {}: {applied}", state.version, state.name))?;
    }
    let complete = states.iter().all(|state| state.applied_at.is_some());
    Ok(if complete { Exit::Done } else { Exit::FoundNothing })
}

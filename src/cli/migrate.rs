//! `migrate`: creates or updates the tables.

use anyhow::Result;
use clap::Args;

use super::output::{Text, note};
use super::{Exit, database, output};
use crate::config::Config;
use crate::db::Database;
use crate::db::migrate::{self, MigrateError};
use crate::db::shape::{self, Difference};

/// Create or update the database's tables. Safe to run again and in parallel.
#[derive(Debug, Args)]
///
/// Existing tables are compared with what this release needs before anything is changed. If they differ, the differences are
/// listed on stderr, the SQL that converts the tables is printed on stdout, and the exit code is 1.
#[command(after_help = "Example:\n  DATABASE_URL=postgres://notifier@db/shop wechat-notifier migrate")]
pub struct Migrate {
    /// Only list migrations and whether they are applied; exit code 3 if one is missing
    #[arg(long)]
    status: bool,
}

impl Migrate {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let db = database::open(config)?;
        if self.status { status(&db).await } else { apply(&db).await }
    }
}

async fn apply(db: &Database) -> Result<Exit> {
    let applied = match migrate::apply(db).await {
        Err(MigrateError::Shape(differences)) => return refuse(&differences),
        applied => applied?,
    };
    for state in &applied {
        output::line(&format!("applied {} {}", state.version, state.name))?;
    }
    if applied.is_empty() {
        output::line("nothing to apply")?;
    }
    Ok(Exit::Done)
}

async fn status(db: &Database) -> Result<Exit> {
    let states = migrate::status(db).await?;
    for state in &states {
        let applied = state.applied_at.map_or_else(|| "missing".to_owned(), output::time);
        output::line(&format!("{} {}: {applied}", state.version, state.name))?;
    }
    match migrate::examine(db).await {
        Ok(true) => Ok(Exit::Done),
        Ok(false) => Ok(Exit::FoundNothing),
        Err(MigrateError::Shape(differences)) => refuse(&differences),
        Err(error) => Err(error.into()),
    }
}

/// The list goes to standard error, the script to standard output, so that it can be redirected to a file.
fn refuse(differences: &[Difference]) -> Result<Exit> {
    note!("error: the tables do not have the shape that this release needs; nothing was changed.");
    for difference in differences {
        output::aside(Text::laid_out(&format!("  {difference}")));
    }
    note!(
        "The SQL on standard output converts them. Read it, run it as the owner of the tables, then run `migrate` again."
    );
    output::lines(Text::laid_out(shape::script(differences).trim_end_matches('\n')))?;
    Ok(Exit::Failed)
}

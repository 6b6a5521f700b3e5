//! `migrate`: brings the tables to what this release expects.

use anyhow::Result;
use clap::Args;

use super::output::{Text, note};
use super::{Exit, database, output};
use crate::config::Config;
use crate::db::Database;
use crate::db::migrate::{self, MigrateError};
use crate::db::shape::{self, Difference};

/// Applies what is missing; a second run finds nothing to do. Safe to run while others do.
#[derive(Debug, Args)]
///
/// Tables that exist already are compared with what this release needs, before anything is changed. Where they differ,
/// the differences are listed on stderr, the SQL that converts them is printed on stdout, and the exit code is 1.
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

/// The list on standard error for people, the script on standard output for a file.
fn refuse(differences: &[Difference]) -> Result<Exit> {
    note!("error: the tables have another shape than this release needs; nothing was changed.");
    for difference in differences {
        output::aside(Text::laid_out(&format!("  {difference}")));
    }
    note!(
        "The SQL on standard output converts them. Read it, then run it as the owner of the tables, and `migrate` again."
    );
    output::lines(Text::laid_out(shape::script(differences).trim_end_matches('\n')))?;
    Ok(Exit::Failed)
}

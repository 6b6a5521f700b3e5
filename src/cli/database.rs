//! Opening the configured database.

use anyhow::{Context, Result};

use crate::config::Config;
use crate::db::{Database, Planning};
use crate::sealing::Sealer;

/// The configured database, with the master key, as commands use it. Connects on first use.
pub fn open(config: &Config) -> Result<Database> {
    open_with(config, Planning::ByValues)
}

/// The same with the given planning of statements.
pub fn open_with(config: &Config, planning: Planning) -> Result<Database> {
    let sealer = Sealer::from_file(config.security.master_key_file.as_deref())?;
    let database = Database::new(&config.database, planning).context("cannot use the configured database")?;
    Ok(database.sealed_by(sealer))
}

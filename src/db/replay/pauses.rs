//! Which apps and templates are paused just now, as a replay asks.

use std::collections::HashSet;

use crate::db::registry::pauses as table;
use crate::db::{Database, Error};

/// What is paused, as the daemons and operators have written it down.
#[derive(Debug, Default)]
pub struct Pauses(HashSet<(String, String)>);

impl Pauses {
    /// Is this template of this app paused, or the whole app?
    pub fn cover(&self, app_id: &str, template_id: &str) -> bool {
        self.0.contains(&(app_id.to_owned(), String::new()))
            || self.0.contains(&(app_id.to_owned(), template_id.to_owned()))
    }
}

/// Reads the pauses in force.
pub async fn pauses(db: &Database) -> Result<Pauses, Error> {
    let found = table::list(db, None).await?;
    Ok(Pauses(found.into_iter().map(|pause| (pause.app_id, pause.template_id.unwrap_or_default())).collect()))
}

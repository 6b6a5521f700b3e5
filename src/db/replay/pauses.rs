//! Which apps and templates are paused just now. The one place of a replay that knows the table of pauses.

use std::collections::HashSet;

use crate::db::{Database, Error, query};

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

/// Reads the pauses; none where the table does not exist yet.
pub async fn pauses(db: &Database) -> Result<Pauses, Error> {
    const EXISTS: &str = "-- replay::pauses_exist
        SELECT to_regclass('t_wechat_pause') IS NOT NULL";
    // A daemon renews its pauses every 10 s; those of a dead process grow old. One by hand names no process.
    const PAUSES: &str = "-- replay::pauses
        SELECT app_id, coalesce(template_id, '') AS template_id FROM t_wechat_pause
         WHERE process = '' OR updated_at > clock_timestamp() - interval '1 minute'";
    let client = db.durable().await?;
    if !query::rows(&client, EXISTS, &[]).await?[0].get::<_, bool>(0) {
        return Ok(Pauses::default());
    }
    let rows = query::rows(&client, PAUSES, &[]).await?;
    Ok(Pauses(rows.iter().map(|row| (row.get("app_id"), row.get("template_id"))).collect()))
}

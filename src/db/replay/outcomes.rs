//! Outcomes come back: from ledger and archive into the set, and from there to the dead letter.

use std::collections::BTreeSet;

use tokio_postgres::Row;

use crate::db::query::sql;
use crate::db::row::Read;
use crate::db::{Database, Error};

/// Dead letters looked at in one statement. While WeChat is away a whole replay may be under way, and looking costs.
const PAGE: i64 = 500;

/// A dead letter of a replay that has come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// `sent`, `skipped` or `dead`.
    pub outcome: String,
}

/// Where the look ends, and what it found.
#[derive(Debug, Default)]
pub struct End {
    /// The next look goes on behind this; `None`: from the beginning.
    pub after: Option<(i64, i64)>,
    pub ended: Vec<Ended>,
    /// Apps of the dead letters that were looked at: their lanes hold, or held, something.
    pub apps: BTreeSet<String>,
}

/// Looks at the next page of published dead letters and writes down what they came to. One that died again waits until the
/// archive has its later dead letter. A process that looks at the same time writes nothing a second time.
pub async fn settle_page(db: &Database, after: Option<(i64, i64)>) -> Result<End, Error> {
    const SETTLE: &str = "-- replay::settle_page
        WITH page AS MATERIALIZED (
            SELECT replay, dead_letter, app_id, outcome, reason, later_dead_letter FROM v_wechat_replay_dead_letter
             WHERE state = 'published' AND (replay, dead_letter) > (:replay, :dead_letter)
             ORDER BY replay, dead_letter LIMIT :page
        ), ended AS (
            UPDATE t_wechat_replay_dead_letter r
               SET state = 'ended', outcome = p.outcome, reason = p.reason, later_dead_letter = p.later_dead_letter,
                   ended_at = clock_timestamp()
              FROM page p
             WHERE r.replay = p.replay AND r.dead_letter = p.dead_letter AND r.state = 'published'
               AND (p.outcome IN ('sent', 'skipped') OR (p.outcome = 'dead' AND p.later_dead_letter IS NOT NULL))
            RETURNING r.replay, r.dead_letter, r.outcome
        ), dead_letters AS (
            UPDATE t_wechat_dead_letter l SET state = 'replayed' FROM ended e
             -- An older release beside us may have left what was published open.
             WHERE l.id = e.dead_letter AND l.state IN ('replaying', 'open')
        )
        SELECT p.replay, p.dead_letter, p.app_id, e.outcome FROM page p LEFT JOIN ended e USING (replay, dead_letter)
         ORDER BY p.replay, p.dead_letter";
    let (replay, dead_letter) = after.unwrap_or_default();
    let rows = sql!(SETTLE, replay, dead_letter, page = PAGE).rows(&db.durable().await?).await?;
    let is_full = rows.len() as i64 == PAGE;
    Ok(End {
        after: match rows.last().filter(|_| is_full) {
            Some(row) => Some((row.read("replay")?, row.read("dead_letter")?)),
            None => None,
        },
        ended: texts(&rows, "outcome")?.into_iter().flatten().map(|outcome| Ended { outcome }).collect(),
        apps: texts(&rows, "app_id")?.into_iter().flatten().collect(),
    })
}

/// Ends of replays that nobody has counted yet; each is handed out once, to one process.
pub async fn ends(db: &Database) -> Result<Vec<String>, Error> {
    const ENDS: &str = "-- replay::ends
        UPDATE t_wechat_replay SET counted = state
         WHERE state IN ('finished', 'stopped', 'cancelled') AND counted IS DISTINCT FROM state
        RETURNING state";
    let rows = sql!(ENDS).rows(&db.durable().await?).await?;
    rows.iter().map(|row| row.read("state")).collect()
}

/// One column of all rows.
fn texts(rows: &[Row], column: &'static str) -> Result<Vec<Option<String>>, Error> {
    rows.iter().map(|row| row.read(column)).collect()
}

//! Dead letters with everything that decides whether they go out, read page by page.

use serde_json::Value;
use tokio_postgres::Row;

use crate::db::dead_letters::filter::{FILTER, filtered};
use crate::db::dead_letters::row::{COLUMNS, archived};
use crate::db::dead_letters::{Archived, Filter};
use crate::db::query::{joined, sql};
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::dead_letter;
use crate::domain::protocol::Status;

/// Dead letters read at a time. Bodies can be 256 KiB each, so a page is some 25 MiB at worst.
pub const PAGE: i64 = 100;

/// A dead letter that may go out.
#[derive(Debug)]
pub struct Candidate {
    pub archived: Archived,
    pub state: dead_letter::State,
    pub headers: Value,
    /// As received; `None` where it is larger than the daemon takes.
    pub body: Option<Vec<u8>>,
    /// What an operator made of it, to go out instead.
    pub edited_body: Option<Vec<u8>>,
    /// The delivery to bring back, by the ledger's recipient; `None`: a whole event.
    pub recipient: Option<String>,
    /// The epoch to go out with; present with the recipient.
    pub epoch: Option<i32>,
    /// The delivery's row: its status and epoch.
    pub row: Option<(Status, i32)>,
    /// Of a whole event: did the ledger know it when the set was fixed, and now?
    pub had_rows: bool,
    pub has_rows: bool,
    /// Is its app registered?
    pub app_known: bool,
}

/// What both statements ask for: `l` is the dead letter, `k` says what is brought back.
const CANDIDATE_COLUMNS: &str = joined!(
    COLUMNS,
    ", l.headers, CASE WHEN octet_length(l.body) <= :max_body THEN l.body END AS body,
               k.recipient AS to_recipient, k.edited_body, d.status AS row_status, d.epoch AS row_epoch,
               coalesce(k.epoch, CASE WHEN k.recipient IS NOT NULL THEN coalesce(d.epoch, l.epoch, 0) + 1 END) AS to_epoch,
               e.has_rows, coalesce(k.had_rows, e.has_rows) AS had_rows, a.app_id IS NOT NULL AS app_known"
);

/// The recipient of a dead letter `l` that is about one delivery. A reused event id is no delivery of that id.
pub(super) const RECIPIENT: &str =
    "CASE WHEN num_nulls(l.company_no, l.app_id, l.template_id, l.event_id) = 0
                            AND l.reason <> 'event_id_reused' THEN nullif(l.recipient, '') END";

/// What the ledger and the registry know of what `k` brings back.
const JOINS: &str = "LEFT JOIN t_wechat_delivery d
            ON d.event_id = k.event_id AND d.recipient = k.recipient AND d.template_id = k.template_id
               AND d.app_id = k.app_id AND d.company_no = k.company_no
          LEFT JOIN t_wechat_app a ON a.app_id = k.app_id
         CROSS JOIN LATERAL (
                SELECT k.recipient IS NULL AND EXISTS (
                       SELECT FROM t_wechat_delivery w
                        WHERE w.event_id = k.event_id AND w.template_id = k.template_id AND w.app_id = k.app_id
                          AND w.company_no = k.company_no) AS has_rows) e";

/// The next page of all dead letters that match, whatever their state, in the order of their ids: what a dry run looks at.
pub async fn matching_page(
    db: &Database,
    filter: &Filter,
    cut_off: i64,
    after: i64,
    max_body_bytes: usize,
) -> Result<Vec<Candidate>, Error> {
    const MATCHING: &str = joined!(
        "-- replay::matching_page
        SELECT ",
        CANDIDATE_COLUMNS,
        "
          FROM (SELECT * FROM t_wechat_dead_letter l
                 WHERE ",
        FILTER,
        "
                   AND l.id <= :cut_off AND l.id > :after
                 ORDER BY l.id LIMIT :page) l
         CROSS JOIN LATERAL (
                SELECT l.company_no, l.app_id, l.template_id, l.event_id,
                       ",
        RECIPIENT,
        " AS recipient,
                       NULL::integer AS epoch, NULL::boolean AS had_rows, NULL::bytea AS edited_body) k
          ",
        JOINS,
        "
         ORDER BY l.id"
    );
    let max_body = i32::try_from(max_body_bytes).unwrap_or(i32::MAX);
    let query = filtered!(MATCHING, filter, max_body, cut_off, after, page = PAGE);
    query.rows(&db.durable().await?).await?.iter().map(candidate).collect()
}

/// The next dead letters of a replay that have not gone out, at most `at_most` of them.
pub async fn pending(
    db: &Database,
    replay: i64,
    at_most: i64,
    max_body_bytes: usize,
) -> Result<Vec<Candidate>, Error> {
    const PENDING: &str = joined!(
        "-- replay::pending
        SELECT ",
        CANDIDATE_COLUMNS,
        "
          FROM (SELECT *, body AS edited_body FROM t_wechat_replay_dead_letter
                 WHERE replay = :replay AND state = 'pending' ORDER BY dead_letter LIMIT :at_most) k
          JOIN t_wechat_dead_letter l ON l.id = k.dead_letter
          ",
        JOINS,
        "
         ORDER BY l.id"
    );
    let max_body = i32::try_from(max_body_bytes).unwrap_or(i32::MAX);
    let at_most = at_most.min(PAGE);
    let query = sql!(PENDING, replay, at_most, max_body);
    query.rows(&db.durable().await?).await?.iter().map(candidate).collect()
}

fn candidate(row: &Row) -> Result<Candidate, Error> {
    let unreadable = |table, word: &str| Error::Unreadable { table, what: format!("status {word}") };
    let archived = archived(row)?;
    let state = dead_letter::State::parse(&archived.state)
        .ok_or_else(|| unreadable("t_wechat_dead_letter", &archived.state))?;
    let status: Option<&str> = row.read("row_status")?;
    let status = status
        .map(|word| Status::parse(word).ok_or_else(|| unreadable("t_wechat_delivery", word)))
        .transpose()?;
    Ok(Candidate {
        archived,
        state,
        headers: row.read("headers")?,
        body: row.read("body")?,
        edited_body: row.read("edited_body")?,
        recipient: row.read("to_recipient")?,
        epoch: row.read("to_epoch")?,
        row: status.map(|status| Ok::<_, Error>((status, row.read("row_epoch")?))).transpose()?,
        had_rows: row.read("had_rows")?,
        has_rows: row.read("has_rows")?,
        app_known: row.read("app_known")?,
    })
}

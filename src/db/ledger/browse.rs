//! What became of events: the ledger as operators ask for it.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use crate::db::row::Read;
use crate::db::{Database, Error, query};
use crate::domain::delivery::DeliveryKey;

/// A row of the ledger.
#[derive(Debug, Clone, Serialize)]
pub struct LedgerRow {
    pub id: i64,
    #[serde(flatten)]
    pub key: DeliveryKey,
    pub openid: Option<String>,
    pub sys_user_id: Option<String>,
    pub status: String,
    pub reason: Option<String>,
    pub errcode: Option<i64>,
    pub errmsg: Option<String>,
    pub rid: Option<String>,
    pub msgid: Option<String>,
    /// Requests charged.
    pub attempts: i32,
    /// Attempts whose outcome nobody knows.
    pub unknowns: i32,
    pub epoch: i32,
    pub claimed_until: Option<Timestamp>,
    /// What a planned or retrying delivery waits for.
    pub due_at: Option<Timestamp>,
    /// WeChat's later word on a message that it took.
    pub receipt: Option<String>,
    pub trace_id: Option<String>,
    pub created_at: Timestamp,
    pub settled_at: Option<Timestamp>,
}

/// The columns of a row `d` that [`ledger_row`] reads, as text for `concat!`.
macro_rules! columns {
    () => {
        "d.id, d.company_no, d.app_id, d.template_id, d.event_id, d.recipient, d.openid, d.sys_user_id, d.status, d.reason,
               d.errcode, d.errmsg, d.rid, d.msgid::text AS msgid, d.attempts, d.unknowns, d.epoch, d.claimed_until, d.due_at,
               d.receipt, d.trace_id, d.created_at, d.settled_at"
    };
}
pub(in crate::db) use columns;

/// Which deliveries; an empty filter means all.
#[derive(Debug, Default)]
pub struct Filter {
    pub company_no: Option<String>,
    pub event_id: Option<String>,
    pub app_id: Option<String>,
    pub template_id: Option<String>,
    pub status: Option<String>,
    pub reason: Option<String>,
    /// The ledger's key of one recipient.
    pub recipient: Option<String>,
    /// A business user or an openid.
    pub user: Option<String>,
    pub since: Option<Timestamp>,
    /// Only unfinished ones that nothing has moved for longer than this, in seconds.
    pub stranded_s: Option<f64>,
    /// At most this many, the newest.
    pub limit: i64,
}

/// The newest deliveries that match, newest first.
pub async fn list(db: &Database, filter: &Filter) -> Result<Vec<LedgerRow>, Error> {
    const SQL: &str = concat!(
        "-- ledger::list
        SELECT ",
        columns!(),
        "
          FROM t_wechat_delivery d
         WHERE ($1::text IS NULL OR company_no = $1)
           AND ($2::text IS NULL OR event_id = $2)
           AND ($3::text IS NULL OR app_id = $3)
           AND ($4::text IS NULL OR template_id = $4)
           AND ($5::text IS NULL OR status = $5)
           AND ($6::text IS NULL OR reason = $6)
           AND ($7::text IS NULL OR sys_user_id = $7 OR openid = $7 OR recipient = '@' || $7)
           AND ($8::timestamptz IS NULL OR created_at >= $8)
           AND ($9::float8 IS NULL OR (status IN ('planned', 'attempting', 'retrying')
                AND greatest(created_at, settled_at, claimed_until, due_at) < now() - $9 * interval '1 second'))
           AND ($10::text IS NULL OR recipient = $10)
         ORDER BY id DESC
         LIMIT $11"
    );
    let rows = query::rows(
        &db.durable().await?,
        SQL,
        &[
            &filter.company_no,
            &filter.event_id,
            &filter.app_id,
            &filter.template_id,
            &filter.status,
            &filter.reason,
            &filter.user,
            &filter.since,
            &filter.stranded_s,
            &filter.recipient,
            &filter.limit,
        ],
    )
    .await?;
    rows.iter().map(ledger_row).collect()
}

/// Reads the [`columns!`].
pub(in crate::db) fn ledger_row(row: &Row) -> Result<LedgerRow, Error> {
    Ok(LedgerRow {
        id: row.read("id")?,
        key: DeliveryKey {
            company_no: row.read("company_no")?,
            app_id: row.read("app_id")?,
            template_id: row.read("template_id")?,
            event_id: row.read("event_id")?,
            recipient: row.read("recipient")?,
        },
        openid: row.read("openid")?,
        sys_user_id: row.read("sys_user_id")?,
        status: row.read("status")?,
        reason: row.read("reason")?,
        errcode: row.read("errcode")?,
        errmsg: row.read("errmsg")?,
        rid: row.read("rid")?,
        msgid: row.read("msgid")?,
        attempts: row.read("attempts")?,
        unknowns: row.read("unknowns")?,
        epoch: row.read("epoch")?,
        claimed_until: row.read("claimed_until")?,
        due_at: row.read("due_at")?,
        receipt: row.read("receipt")?,
        trace_id: row.read("trace_id")?,
        created_at: row.read("created_at")?,
        settled_at: row.read("settled_at")?,
    })
}

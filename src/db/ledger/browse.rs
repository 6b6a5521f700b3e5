//! What became of events: the ledger as operators ask for it.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use crate::db::query::{joined, sql};
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::delivery::DeliveryKey;
use crate::domain::recipient;

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

impl LedgerRow {
    /// Shortens the openids, for wherever the user need not be named.
    pub fn mask(&mut self) {
        self.key.recipient = recipient::masked(&self.key.recipient);
        self.openid = self.openid.as_deref().map(recipient::masked);
    }
}

/// The columns of a row `d` that [`ledger_row`] reads.
pub(in crate::db) const COLUMNS: &str =
    "d.id, d.company_no, d.app_id, d.template_id, d.event_id, d.recipient, d.openid, d.sys_user_id, d.status, d.reason,
               d.errcode, d.errmsg, d.rid, d.msgid::text AS msgid, d.attempts, d.unknowns, d.epoch, d.claimed_until, d.due_at,
               d.receipt, d.trace_id, d.created_at, d.settled_at";

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
    const SQL: &str = joined!(
        "-- ledger::list
        SELECT ",
        COLUMNS,
        "
          FROM t_wechat_delivery d
         WHERE (:company_no::text IS NULL OR company_no = :company_no)
           AND (:event_id::text IS NULL OR event_id = :event_id)
           AND (:app_id::text IS NULL OR app_id = :app_id)
           AND (:template_id::text IS NULL OR template_id = :template_id)
           AND (:status::text IS NULL OR status = :status)
           AND (:reason::text IS NULL OR reason = :reason)
           AND (:user::text IS NULL OR sys_user_id = :user OR openid = :user OR recipient = '@' || :user)
           AND (:since::timestamptz IS NULL OR created_at >= :since)
           AND (:stranded_s::float8 IS NULL OR (status IN ('planned', 'attempting', 'retrying')
                AND greatest(created_at, settled_at, claimed_until, due_at) < now() - :stranded_s * interval '1 second'))
           AND (:recipient::text IS NULL OR recipient = :recipient)
         ORDER BY id DESC
         LIMIT :limit"
    );
    let Filter {
        company_no,
        event_id,
        app_id,
        template_id,
        status,
        reason,
        recipient,
        user,
        since,
        stranded_s,
        limit,
    } = filter;
    let query = sql!(
        SQL,
        company_no,
        event_id,
        app_id,
        template_id,
        status,
        reason,
        user,
        since,
        stranded_s,
        recipient,
        limit
    );
    let rows = query.rows(&db.durable().await?).await?;
    rows.iter().map(ledger_row).collect()
}

/// Reads the [`COLUMNS`].
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

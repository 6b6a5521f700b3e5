//! A row of `t_wechat_dead_letter`, as every reader of the archive has it.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use crate::db::Error;
use crate::db::row::Read;
use crate::domain::dead_letter::{About, DeadLetter, Reason};

/// A dead letter in the archive, without body and headers.
#[derive(Debug, Clone, Serialize)]
pub struct Archived {
    pub id: i64,
    #[serde(flatten)]
    pub dead_letter: DeadLetter,
    pub fingerprint: String,
    pub state: String,
    pub archived_at: Timestamp,
}

impl Archived {
    /// When it was given up, or, where it does not say, when it was archived.
    pub fn died_at(&self) -> Timestamp {
        self.dead_letter.last_failed_at.unwrap_or(self.archived_at)
    }
}

/// The columns of a dead letter `l` that [`archived`] reads.
pub(in crate::db) const COLUMNS: &str =
    "l.id, l.identity, l.reason, l.class, l.errcode, l.errmsg, l.field, l.company_no, l.app_id, l.template_id,
               l.event_id, l.recipient, l.openid, l.sys_user_id, l.epoch, l.attempts, l.fingerprint, l.state,
               l.first_failed_at, l.last_failed_at, l.archived_at, l.trace_id, l.rid, l.token_generation";

/// Reads the [`COLUMNS`].
pub(in crate::db) fn archived(row: &Row) -> Result<Archived, Error> {
    Ok(Archived {
        id: row.read("id")?,
        dead_letter: dead_letter(row)?,
        fingerprint: row.read("fingerprint")?,
        state: row.read("state")?,
        archived_at: row.read("archived_at")?,
    })
}

fn dead_letter(row: &Row) -> Result<DeadLetter, Error> {
    Ok(DeadLetter {
        identity: row.read("identity")?,
        reason: Reason::parse(row.read("reason")?),
        class: row.read("class")?,
        errcode: row.read("errcode")?,
        errmsg: row.read("errmsg")?,
        field: row.read("field")?,
        about: about(row)?,
        epoch: row.read("epoch")?,
        attempts: row.read("attempts")?,
        first_failed_at: row.read("first_failed_at")?,
        last_failed_at: row.read("last_failed_at")?,
        trace_id: row.read("trace_id")?,
        rid: row.read("rid")?,
        token_generation: row.read("token_generation")?,
    })
}

/// Reads what a dead letter is about.
pub(in crate::db) fn about(row: &Row) -> Result<About, Error> {
    Ok(About {
        company_no: row.read("company_no")?,
        app_id: row.read("app_id")?,
        template_id: row.read("template_id")?,
        event_id: row.read("event_id")?,
        recipient: row.read("recipient")?,
        openid: row.read("openid")?,
        sys_user_id: row.read("sys_user_id")?,
    })
}

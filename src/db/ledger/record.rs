//! Rows written without an attempt: skips of the plan, and deliveries that are due later.

use std::sync::Arc;

use jiff::Timestamp;

use crate::db::query::{columns, position, sql};
use crate::db::{Database, Error};
use crate::domain::event::Event;
use crate::domain::outcome::SkipReason;
use crate::domain::recipient::Recipient;

/// A row to write, unless the delivery has one.
#[derive(Debug, Clone)]
pub struct Request {
    pub event: Arc<Event>,
    pub recipient: Recipient,
    pub what: What,
    pub trace_id: Option<String>,
}

/// What the row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Skipped(SkipReason),
    /// To be attempted at this time.
    Planned(Timestamp),
}

impl What {
    const fn status(self) -> &'static str {
        match self {
            Self::Skipped(_) => "skipped",
            Self::Planned(_) => "planned",
        }
    }

    const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Skipped(reason) => Some(reason.as_str()),
            Self::Planned(_) => None,
        }
    }

    const fn due_at(self) -> Option<Timestamp> {
        match self {
            Self::Skipped(_) => None,
            Self::Planned(due_at) => Some(due_at),
        }
    }
}

columns! {
    /// What a row without an attempt says.
    struct Rows<'a>(request: &'a Request) {
        company_no: &'a str = request.event.company_no.as_str(),
        app_id: &'a str = request.event.app_id.as_str(),
        template_id: &'a str = request.event.template_id.as_str(),
        event_id: &'a str = request.event.event_id.as_str(),
        recipient: String = request.recipient.ledger_key(),
        openid: Option<&'a str> = request.recipient.openid().map(|id| id.as_str()),
        sys_user_id: Option<&'a str> = request.recipient.sys_user_id().map(|id| id.as_str()),
        status: &'static str = request.what.status(),
        reason: Option<&'static str> = request.what.reason(),
        due_at: Option<Timestamp> = request.what.due_at(),
        content_hash: &'a [u8] = request.event.content_hash.as_slice(),
        trace_id: Option<&'a str> = request.trace_id.as_deref(),
    }
}

/// Writes a batch; a row that exists stays as it is: the delivery message of its writer brings it to its end. Returns
/// whether each was new.
pub async fn record(db: &Database, batch: &[Request]) -> Result<Vec<bool>, Error> {
    const RECORD: &str = "-- record
        WITH input AS (
            SELECT * FROM :i
        ), written AS (
            INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, sys_user_id,
                                           status, reason, due_at, content_hash, trace_id, settled_at)
            SELECT company_no, app_id, template_id, event_id, recipient, openid, sys_user_id, status, reason, due_at,
                   content_hash, trace_id, CASE WHEN status = 'skipped' THEN clock_timestamp() END
              FROM input ORDER BY event_id, recipient, template_id, app_id, company_no
            ON CONFLICT DO NOTHING
            RETURNING event_id, recipient, template_id, app_id, company_no
        )
        SELECT i.position FROM input i JOIN written USING (event_id, recipient, template_id, app_id, company_no)";
    let mut new = vec![false; batch.len()];
    for row in sql!(RECORD, Rows::of(batch) as i).rows(&db.durable().await?).await? {
        if let Some(is_new) = new.get_mut(position(&row)?) {
            *is_new = true;
        }
    }
    Ok(new)
}

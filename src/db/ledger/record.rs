//! Rows written without an attempt: skips of the plan, and deliveries that are due later.

use std::sync::Arc;

use jiff::Timestamp;

use crate::db::row::Read;
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

/// Writes a batch; a row that exists stays as it is, since whoever wrote it carries it. Answers whether each was new.
pub async fn record(db: &Database, batch: &[Request]) -> Result<Vec<bool>, Error> {
    const RECORD: &str = "-- record: rows without an attempt
        WITH input AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                                 $8::text[], $9::text[], $10::timestamptz[], $11::bytea[], $12::text[]) WITH ORDINALITY
                AS i (company_no, app_id, template_id, event_id, recipient, openid, sys_user_id, status, reason, due_at,
                      content_hash, trace_id, position)
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
    let refused = |error| Error::of_query("record", &error);
    let client = db.durable().await?;
    let statement = client.prepare_cached(RECORD).await.map_err(refused)?;
    let events: Vec<&Event> = batch.iter().map(|r| r.event.as_ref()).collect();
    let company: Vec<&str> = events.iter().map(|e| e.company_no.as_str()).collect();
    let app: Vec<&str> = events.iter().map(|e| e.app_id.as_str()).collect();
    let template: Vec<&str> = events.iter().map(|e| e.template_id.as_str()).collect();
    let event: Vec<&str> = events.iter().map(|e| e.event_id.as_str()).collect();
    let hash: Vec<&[u8]> = events.iter().map(|e| e.content_hash.as_slice()).collect();
    let recipient: Vec<String> = batch.iter().map(|r| r.recipient.ledger_key()).collect();
    let openid: Vec<_> = batch.iter().map(|r| r.recipient.openid().map(|id| id.as_str())).collect();
    let sys_user: Vec<_> = batch.iter().map(|r| r.recipient.sys_user_id().map(|id| id.as_str())).collect();
    let status: Vec<_> = batch.iter().map(|r| r.what.status()).collect();
    let reason: Vec<_> = batch.iter().map(|r| r.what.reason()).collect();
    let due_at: Vec<_> = batch.iter().map(|r| r.what.due_at()).collect();
    let trace: Vec<_> = batch.iter().map(|r| r.trace_id.as_deref()).collect();
    let rows = client
        .query(
            &statement,
            &[
                &company, &app, &template, &event, &recipient, &openid, &sys_user, &status, &reason, &due_at,
                &hash, &trace,
            ],
        )
        .await
        .map_err(refused)?;
    let mut new = vec![false; batch.len()];
    for row in rows {
        let position = usize::try_from(row.read::<i64>("position")? - 1).unwrap_or_default();
        if let Some(slot) = new.get_mut(position) {
            *slot = true;
        }
    }
    Ok(new)
}

//! Writing outcomes into the ledger, and consent with them.
//!
//! Almost every settlement finds its claim as it left it and costs one statement per batch. The rest is locked, judged by
//! [`protocol::settle`](crate::domain::protocol::settle), and written in one transaction.

mod lost_claim;
mod request;

use std::collections::BTreeSet;

use deadpool_postgres::Object;
use jiff::Timestamp;
use uuid::Uuid;

pub use self::request::{ConsentChange, Ending, Request};
use crate::db::query::{columns, position, sql};
use crate::db::{Database, Error};
use crate::domain::protocol::Settling;

/// Records a batch. At most one settlement of each user may be in it, which the recipient lock guarantees.
pub async fn settle(db: &Database, batch: &[Request]) -> Result<Vec<Settling>, Error> {
    let mut client = db.durable().await?;
    let recorded = record_ours(&client, batch).await?;
    let mut verdicts = vec![Settling::Record; batch.len()];
    let lost: Vec<usize> = (0..batch.len()).filter(|position| !recorded.contains(position)).collect();
    if !lost.is_empty() {
        let requests: Vec<&Request> = lost.iter().map(|&position| &batch[position]).collect();
        let judged = lost_claim::settle(&mut client, &requests).await?;
        for (position, verdict) in lost.into_iter().zip(judged) {
            verdicts[position] = verdict;
        }
    }
    Ok(verdicts)
}

columns! {
    /// What an outcome writes to its row, and to the user's consent.
    struct Outcomes<'a>(request: &'a Request) {
        id: i64 = request.row_id,
        claim: Uuid = request.claim,
        status: &'static str = request.ending.status().as_str(),
        reason: Option<&'static str> = request.ending.reason(),
        errcode: Option<i64> = request.facts.errcode,
        errmsg: Option<&'a str> = request.facts.errmsg.as_deref(),
        rid: Option<&'a str> = request.facts.rid.as_deref(),
        /// As text: PostgreSQL has no unsigned 64 bits.
        msgid: Option<String> = request.ending.msgid(),
        attempts: i32 = request.attempts,
        unknown: bool = request.unknown,
        timed_out: bool = request.timed_out,
        epoch: Option<i32> = request.ending.next_epoch(),
        due_at: Option<Timestamp> = request.ending.due_at(),
        generation: Option<i64> = request.token_generation,
        consent: &'static str = request.consent.as_str(),
        user_id: Option<i64> = request.user_id,
        template_id: &'a str = request.event.template_id.as_str(),
    }
}

/// A time as we write it, and as any clock does. Business systems write the records too; what does not look like this counts
/// as older than any claim, since a cast that fails would refuse the whole settlement, forever.
const TIME: &str = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\
                    ([.][0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)?$";

const RECORD: &str = "-- settle: record
        WITH input AS (
            SELECT * FROM :i
        ), settled AS (
            UPDATE t_wechat_delivery d
               SET status = i.status, reason = i.reason, errcode = i.errcode, errmsg = i.errmsg, rid = i.rid,
                   msgid = i.msgid::numeric, attempts = d.attempts + i.attempts,
                   unknowns = d.unknowns + i.unknown::int,
                   timeouts = d.timeouts + i.timed_out::int,
                   epoch = coalesce(i.epoch, d.epoch), claim = NULL, claimed_until = NULL, due_at = i.due_at,
                   token_generation = i.generation, settled_at = clock_timestamp()
              FROM input i
             -- Not `d.id = i.id`: that could be planned as one scan of the whole ledger instead of one look per row.
             WHERE d.id = ANY (ARRAY[i.id]) AND (d.claim = i.claim) IS TRUE AND d.status = 'attempting'
            RETURNING i.position, i.consent, i.user_id, i.template_id, d.claimed_at
        ), locked AS (
            SELECT u.id, s.consent, s.template_id, s.claimed_at
              FROM settled s JOIN t_wechat_user u ON u.id = s.user_id
             WHERE s.consent <> '' ORDER BY u.id FOR UPDATE OF u
        ), consent AS (
            UPDATE t_wechat_user u
               SET subscribe_template = CASE l.consent
                       WHEN 'used' THEN jsonb_set(u.subscribe_template, ARRAY[l.template_id, 'remaining'],
                            to_jsonb(greatest((u.subscribe_template -> l.template_id ->> 'remaining')::numeric - 1, 0)))
                       ELSE coalesce(u.subscribe_template, '{}') || jsonb_build_object(l.template_id,
                            jsonb_build_object('status', 'reject', 'cause', l.consent, 'remaining', 0,
                                               'updated_at', clock_timestamp()))
                   END,
                   update_time = clock_timestamp()
              FROM locked l
             WHERE u.id = l.id
               AND CASE l.consent
                       WHEN 'used' THEN jsonb_typeof(u.subscribe_template -> l.template_id -> 'remaining') = 'number'
                       ELSE CASE WHEN u.subscribe_template -> l.template_id ->> 'updated_at' ~ :time
                                 THEN (u.subscribe_template -> l.template_id ->> 'updated_at')::timestamptz
                                      <= l.claimed_at
                                 ELSE true END
                   END
        )
        SELECT position FROM settled";

/// Settles what is still claimed by its request, and the consent that follows: one statement. Returns the places in the batch
/// of what it settled.
async fn record_ours(client: &Object, batch: &[Request]) -> Result<BTreeSet<usize>, Error> {
    let rows = sql!(RECORD, Outcomes::of(batch) as i, time = TIME).rows(client).await?;
    rows.iter().map(position).collect()
}

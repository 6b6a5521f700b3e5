//! Writing outcomes into the ledger, and consent with them.
//!
//! Almost every settlement finds its claim as it left it and costs one statement per batch. The rest is locked, judged by
//! [`protocol::settle`], and written in one transaction.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::consent::Closing;
use crate::domain::event::Event;
use crate::domain::outcome::{AnswerFacts, DeadReason, SkipReason};
use crate::domain::protocol::{self, Settling, Status};
use crate::domain::recipient::Recipient;

mod lost;

/// An attempt's end, on its way into the ledger.
#[derive(Debug, Clone)]
pub struct Request {
    pub event: Arc<Event>,
    pub recipient: Recipient,
    pub row_id: i64,
    pub claim: Uuid,
    pub ending: Ending,
    pub facts: AnswerFacts,
    /// Requests to charge.
    pub attempts: i32,
    /// Did this attempt end without anybody knowing how?
    pub unknown: bool,
    /// Does the policy on unknowns count it against the delivery?
    pub timed_out: bool,
    /// What the settlement means for the user's consent.
    pub consent: ConsentChange,
    pub user_id: Option<i64>,
    pub token_generation: Option<i64>,
    pub trace_id: Option<String>,
    /// The epoch of the message that brought the delivery; a row written whole gets it.
    pub epoch: i32,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Sent {
        msgid: Option<u64>,
    },
    Skipped(SkipReason),
    /// A message of epoch `epoch` is published and will be back around `due_at`.
    Retrying {
        epoch: i32,
        due_at: Timestamp,
    },
    /// The dead letter is published.
    Dead(DeadReason),
}

/// What a settlement does to the user's consent record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsentChange {
    Nothing,
    /// One counted send is used.
    Used,
    /// WeChat refused (43101, 40003): closed, unless the user has answered again since the claim.
    Closed(Closing),
}

impl Ending {
    fn settlement(self) -> protocol::Settlement {
        match self {
            Self::Sent { .. } => protocol::Settlement::Sent,
            Self::Skipped(_) => protocol::Settlement::Skipped,
            Self::Retrying { .. } => protocol::Settlement::Retrying,
            Self::Dead(_) => protocol::Settlement::Dead,
        }
    }

    fn status(self) -> Status {
        match self {
            Self::Sent { .. } => Status::Sent,
            Self::Skipped(_) => Status::Skipped,
            Self::Retrying { .. } => Status::Retrying,
            Self::Dead(_) => Status::Dead,
        }
    }

    fn reason(self) -> Option<&'static str> {
        match self {
            Self::Skipped(reason) => Some(reason.as_str()),
            Self::Dead(reason) => Some(reason.as_str()),
            Self::Sent { .. } | Self::Retrying { .. } => None,
        }
    }

    fn next_epoch(self) -> Option<i32> {
        match self {
            Self::Retrying { epoch, .. } => Some(epoch),
            _ => None,
        }
    }

    fn due_at(self) -> Option<Timestamp> {
        match self {
            Self::Retrying { due_at, .. } => Some(due_at),
            _ => None,
        }
    }

    fn msgid(self) -> Option<String> {
        match self {
            Self::Sent { msgid } => msgid.map(|id| id.to_string()),
            _ => None,
        }
    }
}

impl ConsentChange {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Used => "used",
            Self::Closed(closing) => closing.as_str(),
        }
    }
}

/// A time as we write it, and as any clock does. Business systems write the records too; what does not look like this counts
/// as older than any claim, since a cast that fails would refuse the whole settlement, and for ever.
const TIME: &str = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\
                    ([.][0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)?$";

/// Records a batch. At most one settlement of each user may stand in it, which the recipient lock guarantees.
pub async fn settle(db: &Database, batch: &[Request]) -> Result<Vec<Settling>, Error> {
    let mut client = db.durable().await?;
    let recorded = record_ours(&client, batch).await?;
    let mut verdicts = vec![Settling::Record; batch.len()];
    let lost: Vec<usize> = (0..batch.len()).filter(|position| !recorded.contains(position)).collect();
    if !lost.is_empty() {
        let requests: Vec<&Request> = lost.iter().map(|&position| &batch[position]).collect();
        let judged = lost::settle(&mut client, &requests).await?;
        for (position, verdict) in lost.into_iter().zip(judged) {
            verdicts[position] = verdict;
        }
    }
    Ok(verdicts)
}

/// Columns of a batch, shared by the statement for our own claims and the one for lost ones.
struct Columns<'a> {
    row_id: Vec<i64>,
    claim: Vec<Uuid>,
    status: Vec<&'static str>,
    reason: Vec<Option<&'static str>>,
    errcode: Vec<Option<i64>>,
    errmsg: Vec<Option<&'a str>>,
    rid: Vec<Option<&'a str>>,
    msgid: Vec<Option<String>>,
    attempts: Vec<i32>,
    unknown: Vec<bool>,
    timed_out: Vec<bool>,
    epoch: Vec<Option<i32>>,
    due_at: Vec<Option<Timestamp>>,
    generation: Vec<Option<i64>>,
    consent: Vec<&'static str>,
    user_id: Vec<Option<i64>>,
    template_id: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    fn of(batch: &[&'a Request]) -> Self {
        Self {
            row_id: batch.iter().map(|r| r.row_id).collect(),
            claim: batch.iter().map(|r| r.claim).collect(),
            status: batch.iter().map(|r| r.ending.status().as_str()).collect(),
            reason: batch.iter().map(|r| r.ending.reason()).collect(),
            errcode: batch.iter().map(|r| r.facts.errcode).collect(),
            errmsg: batch.iter().map(|r| r.facts.errmsg.as_deref()).collect(),
            rid: batch.iter().map(|r| r.facts.rid.as_deref()).collect(),
            msgid: batch.iter().map(|r| r.ending.msgid()).collect(),
            attempts: batch.iter().map(|r| r.attempts).collect(),
            unknown: batch.iter().map(|r| r.unknown).collect(),
            timed_out: batch.iter().map(|r| r.timed_out).collect(),
            epoch: batch.iter().map(|r| r.ending.next_epoch()).collect(),
            due_at: batch.iter().map(|r| r.ending.due_at()).collect(),
            generation: batch.iter().map(|r| r.token_generation).collect(),
            consent: batch.iter().map(|r| r.consent.as_str()).collect(),
            user_id: batch.iter().map(|r| r.user_id).collect(),
            template_id: batch.iter().map(|r| r.event.template_id.as_str()).collect(),
        }
    }
}

const RECORD: &str = "-- settle: record what is still ours, and the consent that follows
        WITH input AS (
            SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[],
                                 $7::text[], $8::text[], $9::int[], $10::bool[], $11::int[], $12::timestamptz[],
                                 $13::bigint[], $14::text[], $15::bigint[], $16::text[], $18::bool[])
                          WITH ORDINALITY
                AS i (id, claim, status, reason, errcode, errmsg, rid, msgid, attempts, unknown, epoch, due_at,
                      generation, consent, user_id, template_id, timed_out, position)
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
                       ELSE CASE WHEN u.subscribe_template -> l.template_id ->> 'updated_at' ~ $17
                                 THEN (u.subscribe_template -> l.template_id ->> 'updated_at')::timestamptz
                                      <= l.claimed_at
                                 ELSE true END
                   END
        )
        SELECT position FROM settled";

/// The settlements whose row is still claimed by them, and with each the consent that follows: one statement.
async fn record_ours(
    client: &deadpool_postgres::Object,
    batch: &[Request],
) -> Result<BTreeSet<usize>, Error> {
    let refused = |error| Error::of_query("settle: record", &error);
    let requests: Vec<&Request> = batch.iter().collect();
    let c = Columns::of(&requests);
    let statement = client.prepare_cached(RECORD).await.map_err(refused)?;
    let rows = client
        .query(
            &statement,
            &[
                &c.row_id,
                &c.claim,
                &c.status,
                &c.reason,
                &c.errcode,
                &c.errmsg,
                &c.rid,
                &c.msgid,
                &c.attempts,
                &c.unknown,
                &c.epoch,
                &c.due_at,
                &c.generation,
                &c.consent,
                &c.user_id,
                &c.template_id,
                &TIME,
                &c.timed_out,
            ],
        )
        .await
        .map_err(refused)?;
    rows.iter().map(position).collect()
}

/// The settlement's place in the batch; the statement only hands back what it was given.
fn position(row: &Row) -> Result<usize, Error> {
    Ok(usize::try_from(row.read::<i64>("position")? - 1).unwrap_or_default())
}

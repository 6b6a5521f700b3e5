//! Claims of deliveries that have a row: locked, judged by the protocol, written back in one transaction.

use std::collections::HashMap;

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::Row as SqlRow;
use uuid::Uuid;

use super::request::{Answer, Claim, Lease, Request};
use crate::db::Error;
use crate::db::ledger::plan;
use crate::db::ledger::protocol_row::protocol_row;
use crate::db::query::{columns, position, sql};
use crate::db::row::Read;
use crate::domain::protocol::{self, Meeting};

/// What the protocol says to each request; the claims that it grants are written down.
pub(super) async fn claim(
    client: &mut Object,
    lease: Lease,
    batch: &[&Request],
) -> Result<HashMap<Uuid, Answer>, Error> {
    let refused = |error| Error::of_query("claim: transaction", &error);
    let transaction = client.transaction().await.map_err(refused)?;
    let met = lock(&transaction, lease, batch).await?;
    take(&transaction, lease, &met).await?;
    transaction.commit().await.map_err(refused)?;
    Ok(met.into_iter().map(|met| (met.request.delivery_message.claim, met.answer())).collect())
}

/// A row under lock, beside the request that meets it.
struct Met<'a> {
    request: &'a Request,
    meeting: Meeting,
    reused: bool,
    /// The claim as it is if the row is ours.
    claim: Claim,
}

columns! {
    /// Which rows.
    struct Keys<'a>(request: &'a Request) {
        company_no: &'a str = request.event.company_no.as_str(),
        app_id: &'a str = request.event.app_id.as_str(),
        template_id: &'a str = request.event.template_id.as_str(),
        event_id: &'a str = request.event.event_id.as_str(),
        recipient: String = request.recipient.ledger_key(),
        content_hash: &'a [u8] = request.event.content_hash.as_slice(),
    }
}

async fn lock<'a>(
    transaction: &Transaction<'_>,
    lease: Lease,
    batch: &[&'a Request],
) -> Result<Vec<Met<'a>>, Error> {
    const LOCK: &str = "-- claim: lock
        SELECT i.position, d.id, d.status, d.epoch, d.claim, d.attempts, d.unknowns, d.timeouts, d.take_overs,
               d.content_hash = i.content_hash AS same_content,
               coalesce(d.claimed_until > clock_timestamp(), false)
                 OR pg_postmaster_start_time() > clock_timestamp() - :grace_s * interval '1 s' AS leased,
               u.id AS user_id, u.id IS NOT NULL AND u.status IS DISTINCT FROM 1 AS is_disabled,
               u.subscribe_template -> i.template_id AS consent
          FROM :i
          JOIN t_wechat_delivery d USING (event_id, recipient, template_id, app_id, company_no)
          LEFT JOIN t_wechat_user u ON u.app_id = d.app_id AND u.openid = d.openid
         ORDER BY d.id
           FOR UPDATE OF d";
    let grace_s = lease.grace.as_secs_f64();
    let keys = batch.iter().copied();
    let rows = sql!(LOCK, Keys::of(keys) as i, grace_s).rows(transaction).await?;
    rows.iter().map(|row| met(row, batch)).collect()
}

fn met<'a>(row: &SqlRow, batch: &[&'a Request]) -> Result<Met<'a>, Error> {
    let request = batch[position(row)?];
    let meeting = protocol::meet(Some(&protocol_row(row)?), &request.delivery_message);
    let is_other_content = !row.read::<bool>("same_content")?;
    let claim = Claim {
        row_id: row.read("id")?,
        claim: request.delivery_message.claim,
        consent: row.read::<Option<i64>>("user_id")?.map(|_| plan::consent_of(row)),
        is_disabled: row.read("is_disabled")?,
        user_id: row.read("user_id")?,
        attempts: row.read("attempts")?,
        timeouts: if resets_counts(request, meeting) { 0 } else { row.read("timeouts")? },
        unknowns: row.read::<i32>("unknowns")? + i32::from(takes_over(meeting)),
    };
    // A replay may have a body that an operator changed.
    Ok(Met { request, meeting, reused: is_other_content && !request.delivery_message.replay, claim })
}

columns! {
    /// What a granted claim writes.
    struct Grants<'a>(met: &'a Met<'a>) {
        id: i64 = met.claim.row_id,
        claim: Uuid = met.claim.claim,
        epoch: i32 = met.request.delivery_message.epoch,
        takes_over: bool = takes_over(met.meeting),
        resets_counts: bool = resets_counts(met.request, met.meeting),
        /// A body that an operator changed is the delivery's own from here on; its messages are compared with it.
        content_hash: &'a [u8] = met.request.event.content_hash.as_slice(),
    }
}

/// Writes down the claims that the protocol granted.
async fn take(transaction: &Transaction<'_>, lease: Lease, met: &[Met<'_>]) -> Result<(), Error> {
    const TAKE: &str = "-- claim: take
        UPDATE t_wechat_delivery d
           SET status = 'attempting', epoch = i.epoch, claim = i.claim, claimed_at = clock_timestamp(),
               claimed_until = clock_timestamp() + :lease_s * interval '1 s', reason = NULL, due_at = NULL,
               unknowns = d.unknowns + i.takes_over::int,
               take_overs = CASE WHEN i.resets_counts THEN 0 ELSE d.take_overs + i.takes_over::int END,
               timeouts = CASE WHEN i.resets_counts THEN 0 ELSE d.timeouts END,
               content_hash = i.content_hash
          FROM :i
         -- Not `d.id = i.id`: see settle.
         WHERE d.id = ANY (ARRAY[i.id])";
    let granted: Vec<&Met<'_>> = met.iter().filter(|met| !met.reused && grants(met.meeting)).collect();
    if granted.is_empty() {
        return Ok(());
    }
    let lease_s = lease.lasts.as_secs_f64();
    sql!(TAKE, Grants::of(granted.iter().copied()) as i, lease_s).count(transaction).await?;
    Ok(())
}

const fn grants(meeting: Meeting) -> bool {
    matches!(meeting, Meeting::Claim | Meeting::TakeOver | Meeting::TakeOverAndGiveUp)
}

const fn takes_over(meeting: Meeting) -> bool {
    matches!(meeting, Meeting::TakeOver | Meeting::TakeOverAndGiveUp)
}

/// The claim of a replay begins the counts of unknowns again. A replay that takes over has claimed before and crashed:
/// beginning again each time would never reach the bound.
fn resets_counts(request: &Request, meeting: Meeting) -> bool {
    request.delivery_message.replay && meeting == Meeting::Claim
}

impl Met<'_> {
    fn answer(self) -> Answer {
        let is_ours =
            !self.reused && (grants(self.meeting) || matches!(self.meeting, Meeting::Ours | Meeting::GiveUp));
        Answer { meeting: self.meeting, claim: is_ours.then_some(self.claim), reused: self.reused }
    }
}

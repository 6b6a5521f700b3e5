//! Settlements that did not find their claim: rare, so one row at a time, in one transaction, by the protocol's word.

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::Row as SqlRow;

use super::super::claim::protocol_row;
use super::{ConsentChange, Ending, Error, Request};
use crate::db::row::Read;
use crate::domain::protocol::{self, Settling};

/// Judges each settlement under lock and writes what the protocol says.
pub(super) async fn settle(client: &mut Object, requests: &[&Request]) -> Result<Vec<Settling>, Error> {
    let refused = |error| Error::of_query("settle: transaction", &error);
    let transaction = client.transaction().await.map_err(refused)?;
    let mut verdicts = Vec::with_capacity(requests.len());
    for request in in_key_order(requests) {
        verdicts.push((request.claim, settle_one(&transaction, request).await?));
    }
    transaction.commit().await.map_err(refused)?;
    let verdict_of = |request: &&Request| verdicts.iter().find(|(claim, _)| *claim == request.claim);
    Ok(requests.iter().filter_map(verdict_of).map(|(_, verdict)| *verdict).collect())
}

/// One order for all processes, so that two of them never wait for each other.
fn in_key_order<'a>(requests: &[&'a Request]) -> Vec<&'a Request> {
    let mut ordered = requests.to_vec();
    ordered.sort_by_key(|request| (request.event.event_id.clone(), request.recipient.ledger_key()));
    ordered
}

async fn settle_one(transaction: &Transaction<'_>, request: &Request) -> Result<Settling, Error> {
    let row = lock(transaction, request).await?;
    let seen = row.as_ref().map(protocol_row).transpose()?;
    let verdict = protocol::settle(seen.as_ref(), request.claim, request.ending.settlement());
    match (verdict, row) {
        (Settling::Record, Some(_)) if !matches!(request.ending, Ending::Sent { .. }) => {
            // The statement for our own claims records these; it must have run into a moment in between.
            return Err(Error::Again("a claim was lost and found again"));
        }
        (Settling::Record, Some(row)) => record_sent(transaction, request, row.read("id")?).await?,
        (Settling::Insert, _) => insert_sent(transaction, request).await?,
        _ => return Ok(verdict),
    }
    if request.consent == ConsentChange::Used {
        use_one(transaction, request).await?;
    }
    Ok(verdict)
}

async fn lock(transaction: &Transaction<'_>, request: &Request) -> Result<Option<SqlRow>, Error> {
    const LOCK: &str = "-- settle: lock the row of a lost claim
        SELECT id, status, epoch, claim, timeouts, take_overs, false AS leased
          FROM t_wechat_delivery
         WHERE event_id = $1 AND recipient = $2 AND template_id = $3 AND app_id = $4 AND company_no = $5
           FOR UPDATE";
    let refused = |error| Error::of_query("settle: lock", &error);
    let statement = transaction.prepare_cached(LOCK).await.map_err(refused)?;
    let event = &request.event;
    transaction
        .query_opt(
            &statement,
            &[
                &event.event_id.as_str(),
                &request.recipient.ledger_key(),
                &event.template_id.as_str(),
                &event.app_id.as_str(),
                &event.company_no.as_str(),
            ],
        )
        .await
        .map_err(refused)
}

/// `sent` always wins: over a later claim, a retry, even a dead letter.
async fn record_sent(transaction: &Transaction<'_>, request: &Request, row_id: i64) -> Result<(), Error> {
    const SENT: &str = "-- settle: sent wins
        UPDATE t_wechat_delivery
           SET status = 'sent', reason = NULL, errcode = $2, errmsg = NULL, rid = NULL, msgid = $3::text::numeric,
               attempts = attempts + $4, claim = NULL, claimed_until = NULL, due_at = NULL,
               token_generation = $5, settled_at = clock_timestamp()
         WHERE id = $1";
    let refused = |error| Error::of_query("settle: sent", &error);
    let statement = transaction.prepare_cached(SENT).await.map_err(refused)?;
    transaction
        .execute(
            &statement,
            &[&row_id, &request.facts.errcode, &msgid(request), &request.attempts, &request.token_generation],
        )
        .await
        .map_err(refused)?;
    Ok(())
}

/// The row with our claim is gone (a failover to a standby that lacked it): it is written whole.
async fn insert_sent(transaction: &Transaction<'_>, request: &Request) -> Result<(), Error> {
    const INSERT: &str = "-- settle: write a sent row whole
        INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, sys_user_id, status,
                                       errcode, msgid, attempts, epoch, claimed_at, content_hash, trace_id,
                                       token_generation, settled_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, 'sent', $8, $9::text::numeric, $10, $11, clock_timestamp(), $12, $13, $14,
                clock_timestamp())";
    let refused = |error| Error::of_query("settle: insert", &error);
    let statement = transaction.prepare_cached(INSERT).await.map_err(refused)?;
    let (event, recipient) = (&request.event, &request.recipient);
    transaction
        .execute(
            &statement,
            &[
                &event.company_no.as_str(),
                &event.app_id.as_str(),
                &event.template_id.as_str(),
                &event.event_id.as_str(),
                &recipient.ledger_key(),
                &recipient.openid().map(|id| id.as_str()),
                &recipient.sys_user_id().map(|id| id.as_str()),
                &request.facts.errcode,
                &msgid(request),
                &request.attempts,
                &request.epoch,
                &event.content_hash.as_slice(),
                &request.trace_id,
                &request.token_generation,
            ],
        )
        .await
        .map_err(refused)?;
    Ok(())
}

fn msgid(request: &Request) -> Option<String> {
    match request.ending {
        Ending::Sent { msgid } => msgid.map(|id| id.to_string()),
        _ => None,
    }
}

async fn use_one(transaction: &Transaction<'_>, request: &Request) -> Result<(), Error> {
    const USE_ONE: &str = "-- settle: one counted send is used
        UPDATE t_wechat_user
           SET subscribe_template = jsonb_set(subscribe_template, ARRAY[$2::text, 'remaining'],
                   to_jsonb(greatest((subscribe_template -> $2 ->> 'remaining')::numeric - 1, 0))),
               update_time = clock_timestamp()
         WHERE id = $1 AND jsonb_typeof(subscribe_template -> $2 -> 'remaining') = 'number'";
    let refused = |error| Error::of_query("settle: use one", &error);
    let statement = transaction.prepare_cached(USE_ONE).await.map_err(refused)?;
    transaction
        .execute(&statement, &[&request.user_id, &request.event.template_id.as_str()])
        .await
        .map_err(refused)?;
    Ok(())
}

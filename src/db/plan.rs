//! Who is named for an event, and what the ledger already knows of it.

use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::{Database, Error};
use crate::domain::consent::{Answer, Consent};
use crate::domain::event::Event;
use crate::domain::plan::{Known, Named, User};
use crate::domain::protocol::Status;
use crate::domain::recipient::Recipient;

/// What a plan is made from.
#[derive(Debug, Default)]
pub struct Findings {
    pub named: Vec<Named>,
    pub known: Vec<Known>,
}

/// Events named by rule, as columns.
#[derive(Default)]
struct Events<'a> {
    position: Vec<i32>,
    company_no: Vec<&'a str>,
    app_id: Vec<&'a str>,
    template_id: Vec<&'a str>,
    event_id: Vec<&'a str>,
    customer_id: Vec<&'a str>,
    content_hash: Vec<&'a [u8]>,
    by_rule: Vec<bool>,
}

/// People whom events name themselves, as columns.
#[derive(Default)]
struct People<'a> {
    position: Vec<i32>,
    app_id: Vec<&'a str>,
    template_id: Vec<&'a str>,
    sys_user_id: Vec<Option<&'a str>>,
    openid: Vec<Option<&'a str>>,
}

/// Looks up a batch of events: two statements, sent together.
pub async fn look_up(db: &Database, batch: &[Arc<Event>]) -> Result<Vec<Findings>, Error> {
    let events = events_of(batch);
    let people = people_of(batch);
    let client = db.durable().await?;
    let (named, known) = tokio::try_join!(named(&client, &events, &people), known(&client, &events))?;

    let mut findings: Vec<Findings> = batch.iter().map(|_| Findings::default()).collect();
    for row in &named {
        findings[position(row)].named.extend(named_of(row));
    }
    for row in &known {
        findings[position(row)].known.push(known_of(row)?);
    }
    Ok(findings)
}

fn events_of(batch: &[Arc<Event>]) -> Events<'_> {
    let mut events = Events::default();
    for (position, event) in (0..).zip(batch) {
        events.position.push(position);
        events.company_no.push(event.company_no.as_str());
        events.app_id.push(event.app_id.as_str());
        events.template_id.push(event.template_id.as_str());
        events.event_id.push(event.event_id.as_str());
        events.customer_id.push(event.customer_id.as_ref().map_or("", |id| id.as_str()));
        events.content_hash.push(&event.content_hash);
        events.by_rule.push(event.sys_user_ids.is_empty() && event.openids.is_empty());
    }
    events
}

fn people_of(batch: &[Arc<Event>]) -> People<'_> {
    let mut people = People::default();
    for (position, event) in (0..).zip(batch) {
        let users = event.sys_user_ids.iter().map(|id| (Some(id.as_str()), None));
        let openids = event.openids.iter().map(|id| (None, Some(id.as_str())));
        for (sys_user_id, openid) in users.chain(openids) {
            people.position.push(position);
            people.app_id.push(event.app_id.as_str());
            people.template_id.push(event.template_id.as_str());
            people.sys_user_id.push(sys_user_id);
            people.openid.push(openid);
        }
    }
    people
}

async fn named(
    client: &deadpool_postgres::Object,
    events: &Events<'_>,
    people: &People<'_>,
) -> Result<Vec<Row>, Error> {
    const NAMED: &str = "-- plan: who is named, by rule or by the event itself, and what he said
        WITH event AS (
            SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bool[])
                AS e (position, company_no, app_id, template_id, customer_id, by_rule)
        ), named AS (
            SELECT e.position, e.app_id, e.template_id, n.sys_user_id, n.openid
              FROM event e
              JOIN t_wechat_message_user r
                ON r.company_no = e.company_no AND r.app_id = e.app_id AND r.template_id = e.template_id
               AND coalesce(r.customer_id, '') = ANY (ARRAY['', e.customer_id]) AND r.status = 1
             CROSS JOIN LATERAL (SELECT unnest(r.sys_user_ids), NULL UNION ALL SELECT NULL, unnest(r.openids))
                AS n (sys_user_id, openid)
             WHERE e.by_rule
            UNION ALL
            SELECT * FROM unnest($7::int[], $8::text[], $9::text[], $10::text[], $11::text[])
        )
        SELECT n.position, n.sys_user_id AS named_user, n.openid AS named_openid,
               u.sys_user_id AS bound_user, u.openid, u.status, u.subscribe_template -> n.template_id AS consent
          FROM named n
          LEFT JOIN LATERAL (
                SELECT * FROM t_wechat_user u WHERE u.app_id = n.app_id AND u.sys_user_id = n.sys_user_id
                UNION ALL
                SELECT * FROM t_wechat_user u WHERE u.app_id = n.app_id AND u.openid = n.openid) u ON true";
    let refused = |error| Error::of_query("plan: named", &error);
    let statement = client.prepare_cached(NAMED).await.map_err(refused)?;
    client
        .query(
            &statement,
            &[
                &events.position,
                &events.company_no,
                &events.app_id,
                &events.template_id,
                &events.customer_id,
                &events.by_rule,
                &people.position,
                &people.app_id,
                &people.template_id,
                &people.sys_user_id,
                &people.openid,
            ],
        )
        .await
        .map_err(refused)
}

async fn known(client: &deadpool_postgres::Object, events: &Events<'_>) -> Result<Vec<Row>, Error> {
    const KNOWN: &str = "-- plan: what the ledger already knows of these events
        SELECT e.position, d.recipient, d.openid, d.sys_user_id, d.status, d.turn,
               d.content_hash = e.content_hash AS same_content
          FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])
                AS e (position, company_no, app_id, template_id, event_id, content_hash)
          JOIN t_wechat_delivery d
            ON d.event_id = e.event_id AND d.template_id = e.template_id AND d.app_id = e.app_id
           AND d.company_no = e.company_no";
    let refused = |error| Error::of_query("plan: known", &error);
    let statement = client.prepare_cached(KNOWN).await.map_err(refused)?;
    client
        .query(
            &statement,
            &[
                &events.position,
                &events.company_no,
                &events.app_id,
                &events.template_id,
                &events.event_id,
                &events.content_hash,
            ],
        )
        .await
        .map_err(refused)
}

/// The event's place in the batch; the statement only hands back what it was given.
fn position(row: &Row) -> usize {
    usize::try_from(row.get::<_, i32>("position")).unwrap_or_default()
}

fn named_of(row: &Row) -> Option<Named> {
    let bound: Option<&str> = row.get("openid");
    let user = bound.map(|_| User { active: row.get::<_, i16>("status") == 1, consent: consent_of(row) });
    let openid = bound.or(row.get("named_openid"));
    let sys_user_id = row.get::<_, Option<&str>>("named_user").or(row.get("bound_user"));
    let named = Named { sys_user_id: id(sys_user_id), openid: id(openid), user };
    (named.sys_user_id.is_some() || named.openid.is_some()).then_some(named)
}

/// What the record says; a record that is not of the agreed shape counts as no answer.
pub(super) fn consent_of(row: &Row) -> Consent {
    let record: Option<Json<serde_json::Value>> = row.try_get("consent").unwrap_or_default();
    let record = record.map(|json| json.0).unwrap_or_default();
    Consent { answer: Answer::parse(record["status"].as_str()), remaining: record["remaining"].as_i64() }
}

fn known_of(row: &Row) -> Result<Known, Error> {
    let status = row.get("status");
    Ok(Known {
        recipient: recipient_of(row),
        status: Status::parse(status).ok_or_else(|| Error::Unreadable {
            table: "t_wechat_delivery",
            what: format!("status {status}"),
        })?,
        turn: row.get("turn"),
        same_content: row.get("same_content"),
    })
}

fn recipient_of(row: &Row) -> Recipient {
    match (id(row.get("openid")), id(row.get("sys_user_id"))) {
        (Some(openid), sys_user_id) => Recipient::Bound { openid, sys_user_id },
        (None, Some(sys_user_id)) => Recipient::Unbound { sys_user_id },
        (None, None) => Recipient::Nobody,
    }
}

/// Identifiers in the tables were typed by people. An empty cell is how many tools write "none"; a text that is no
/// identifier can be no one's either, so whoever it names counts as not named.
fn id<T: std::str::FromStr>(text: Option<&str>) -> Option<T> {
    text.filter(|text| !text.is_empty())?.parse().ok()
}

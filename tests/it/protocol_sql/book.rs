//! A ledger of its own, filled and read back a few thousand rows at a time.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;
use wechat_notifier::db::ledger::claim::Lease;
use wechat_notifier::db::{Database, migrate};
use wechat_notifier::domain::event::{Arrival, Event};
use wechat_notifier::domain::protocol::{OnUnknown, Row, Status};
use wechat_notifier::domain::recipient::Recipient;

use crate::scratch::Scratch;

/// Rows per call, as many as the daemon puts into one statement.
pub const BATCH: usize = 256;

/// Half a minute: well told from the hour that prepared leases run or are over by.
pub const LEASE: Lease = Lease { lasts: Duration::from_secs(30), grace: Duration::ZERO };

/// One test's ledger.
pub struct Book {
    scratch: Scratch,
    pub db: Database,
    pub client: Client,
}

/// A row as it stands before something happens to it.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    pub row: Row,
    pub unknowns: i32,
}

/// A row as it stands afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    pub status: Status,
    pub epoch: i32,
    pub claim: Option<Uuid>,
    pub lease: LeaseLeft,
    pub unknowns: i32,
    pub take_overs: i32,
    pub timeouts: i32,
    pub attempts: i32,
    pub reason: Option<String>,
}

/// How long a row's claim still lasts, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseLeft {
    None,
    Over,
    /// Given by this test's own claims.
    Fresh,
    /// As it was prepared: an hour.
    Hour,
}

impl Before {
    /// Requests charged to every prepared row.
    pub const ATTEMPTS: i32 = 3;
    /// What stands in `reason` of every prepared row.
    pub const REASON: &str = "prepared";

    /// The row where nothing happens to it.
    pub fn untouched(&self) -> After {
        After {
            status: self.row.status,
            epoch: self.row.epoch,
            claim: self.row.claim,
            lease: if self.row.leased { LeaseLeft::Hour } else { LeaseLeft::Over },
            unknowns: self.unknowns,
            take_overs: self.row.take_overs,
            timeouts: self.row.timeouts,
            attempts: Self::ATTEMPTS,
            reason: Some(Self::REASON.to_owned()),
        }
    }
}

impl Book {
    pub async fn new() -> Self {
        let scratch = Scratch::new().await;
        let db = scratch.database();
        migrate::apply(&db).await.unwrap();
        Self { client: scratch.client().await, db, scratch }
    }

    /// Pools of their own, as another process has them.
    pub fn another_process(&self) -> Database {
        self.scratch.database()
    }

    /// Writes rows for the events `e0`, `e1`, … where there is one.
    pub async fn prepare(&self, rows: &[Option<Before>]) {
        const PREPARE: &str = "
            INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, status, epoch,
                claim, claimed_at, claimed_until, take_overs, timeouts, unknowns, attempts, reason, due_at, content_hash)
            SELECT 'C001', 'wx1', 'T1', 'e' || number, 'o' || number, 'o' || number, status, epoch,
                   claim, now() - interval '2 h', now() + CASE WHEN leased THEN interval '1 h' ELSE interval '-1 h' END,
                   take_overs, timeouts, unknowns, $9, $10, now(), $11
              FROM unnest($1::int[], $2::text[], $3::int[], $4::uuid[], $5::bool[], $6::int[], $7::int[], $8::int[])
                AS i (number, status, epoch, claim, leased, take_overs, timeouts, unknowns)";
        let there: Vec<(i32, Before)> = (0..).zip(rows).filter_map(|(n, row)| Some((n, (*row)?))).collect();
        let column =
            |of: fn(&Before) -> i32| there.iter().map(|(_, before)| of(before)).collect::<Vec<i32>>();
        let numbers: Vec<i32> = there.iter().map(|(number, _)| *number).collect();
        let status: Vec<&str> = there.iter().map(|(_, before)| before.row.status.as_str()).collect();
        let claims: Vec<Option<Uuid>> = there.iter().map(|(_, before)| before.row.claim).collect();
        let leased: Vec<bool> = there.iter().map(|(_, before)| before.row.leased).collect();
        let (epochs, take_overs) = (column(|b| b.row.epoch), column(|b| b.row.take_overs));
        let (timeouts, unknowns) = (column(|b| b.row.timeouts), column(|b| b.unknowns));
        let hash = event(0, None).content_hash.to_vec();
        self.client
            .execute(
                PREPARE,
                &[
                    &numbers,
                    &status,
                    &epochs,
                    &claims,
                    &leased,
                    &take_overs,
                    &timeouts,
                    &unknowns,
                    &Before::ATTEMPTS,
                    &Before::REASON,
                    &hash,
                ],
            )
            .await
            .unwrap();
    }

    /// The rows of the events `e0` to `e<count - 1>`, in that order.
    pub async fn rows(&self, count: usize) -> Vec<Option<After>> {
        const ROWS: &str = "
            SELECT substr(event_id, 2)::int AS number, status, epoch, claim, unknowns, take_overs, timeouts, attempts, reason,
                   extract(epoch FROM claimed_until - now())::float8 AS lease_s
              FROM t_wechat_delivery";
        let mut rows = vec![None; count];
        for row in self.client.query(ROWS, &[]).await.unwrap() {
            rows[usize::try_from(row.get::<_, i32>("number")).unwrap()] = Some(After {
                status: Status::parse(row.get("status")).unwrap(),
                epoch: row.get("epoch"),
                claim: row.get("claim"),
                lease: lease_left(row.get("lease_s")),
                unknowns: row.get("unknowns"),
                take_overs: row.get("take_overs"),
                timeouts: row.get("timeouts"),
                attempts: row.get("attempts"),
                reason: row.get("reason"),
            });
        }
        rows
    }

    /// Ids of the rows of the events `e0` to `e<count - 1>`; -1 where there is none.
    pub async fn row_ids(&self, count: usize) -> Vec<i64> {
        let mut ids = vec![-1; count];
        const IDS: &str = "SELECT substr(event_id, 2)::int, id FROM t_wechat_delivery";
        for row in self.client.query(IDS, &[]).await.unwrap() {
            ids[usize::try_from(row.get::<_, i32>(0)).unwrap()] = row.get(1);
        }
        ids
    }
}

fn lease_left(seconds: Option<f64>) -> LeaseLeft {
    match seconds {
        None => LeaseLeft::None,
        Some(left) if left <= 0.0 => LeaseLeft::Over,
        Some(left) if left <= LEASE.lasts.as_secs_f64() => LeaseLeft::Fresh,
        Some(_) => LeaseLeft::Hour,
    }
}

/// Event `e<number>`; all of them say the same unless told otherwise.
pub fn event(number: usize, text: Option<&str>) -> Arc<Event> {
    let body = json!({
        "event_id": format!("e{number}"), "company_no": "C001", "app_id": "wx1", "template_id": "T1",
        "data": { "thing1": text.unwrap_or("the same") },
    });
    let arrival = Arrival {
        message_id: None,
        timestamp: None,
        first_seen: Timestamp::UNIX_EPOCH,
        default_ttl: Duration::from_secs(60),
    };
    Arc::new(Event::decode(body.to_string().as_bytes(), &arrival).unwrap())
}

/// The recipient `o<number>`.
pub fn recipient(number: usize) -> Recipient {
    Recipient::Bound { openid: format!("o{number}").parse().unwrap(), sys_user_id: None }
}

/// Whose claim a prepared row holds.
#[derive(Debug, Clone, Copy)]
pub enum Holder {
    Nobody,
    Us,
    Another,
}

/// Every row the protocol can tell apart, and for each the claim of whoever comes: the claim tells messages apart, so each
/// has its own.
pub fn every_row() -> Vec<(Before, Uuid)> {
    let mut rows = Vec::new();
    for &status in Status::ALL {
        for epoch in 0..3 {
            for holder in [Holder::Nobody, Holder::Us, Holder::Another] {
                for leased in [true, false] {
                    for (take_overs, timeouts) in [(0, 0), (0, 1), (1, 0), (1, 1), (10, 0), (10, 1)] {
                        let ours = Uuid::new_v4();
                        let claim = match holder {
                            Holder::Nobody => None,
                            Holder::Us => Some(ours),
                            Holder::Another => Some(Uuid::new_v4()),
                        };
                        let row = Row { status, epoch, claim, leased, timeouts, take_overs };
                        // One unknown of an earlier life, before a replay started the other two counts anew.
                        rows.push((Before { row, unknowns: timeouts + take_overs + 1 }, ours));
                    }
                }
            }
        }
    }
    rows
}

pub const POLICIES: [OnUnknown; 2] = [OnUnknown::Resend, OnUnknown::Park];

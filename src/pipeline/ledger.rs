//! The pipeline's way to the ledger: four batchers with the patience to wait until PostgreSQL does its work again, and two
//! questions about big fan-outs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::db::health::Asker;
use crate::db::ledger::{claim, fan_out, plan, record, settle};
use crate::db::{self, Database, batch::Batcher};
use crate::delays::Delays;
use crate::domain::event::Event;
use crate::domain::protocol::Settling;
use crate::domain::recipient::Recipient;
use crate::lifecycle::{Task, Tasks};
use crate::metrics::Metrics;

/// Rows per statement. More would make one statement's locks and its answer's latency felt; fewer would pay the fixed cost
/// of a statement too often.
const MAX_BATCH: usize = 256;
/// A batch is up to three statements, each of which PostgreSQL ends after 10 s. Longer, and living holders would not settle
/// within `delivery.takeover_grace`.
const LONGEST_BATCH: Duration = Duration::from_secs(30);

/// What the pipeline asks of the ledger. Each of the four batched questions waits for as long as PostgreSQL is away or the
/// installation is at fault: the message that asks is unacked meanwhile, so nothing is lost, and the prefetch bounds how many
/// wait. What they answer with is the fault of a value in the question itself.
#[derive(Clone)]
pub struct Ledger {
    plan: Batcher<Arc<Event>, plan::Findings>,
    record: Batcher<record::Request, bool>,
    claim: Batcher<claim::Request, claim::Answer>,
    settle: Batcher<settle::Request, Settling>,
    db: Database,
}

impl Ledger {
    /// Starts the batchers.
    pub fn start(db: &Database, lease: claim::Lease, metrics: &Arc<Metrics>, tasks: &Tasks) -> Self {
        let observe = |statement: &'static str| {
            let metrics = Arc::clone(metrics);
            move |rows| metrics.batch(statement, rows)
        };
        let (for_plan, for_record, for_claim, for_settle) = (db.clone(), db.clone(), db.clone(), db.clone());
        Self {
            plan: Batcher::start(
                (tasks, Task::PlanBatch),
                MAX_BATCH,
                Arc::new(move |batch| {
                    let db = for_plan.clone();
                    Box::pin(
                        async move { db.asked(Asker::Plan, LONGEST_BATCH, plan::look_up(&db, batch)).await },
                    )
                }),
                observe("plan"),
            ),
            record: Batcher::start(
                (tasks, Task::RecordBatch),
                MAX_BATCH,
                Arc::new(move |batch| {
                    let db = for_record.clone();
                    Box::pin(async move {
                        db.asked(Asker::Record, LONGEST_BATCH, record::record(&db, batch)).await
                    })
                }),
                observe("record"),
            ),
            claim: Batcher::start(
                (tasks, Task::ClaimBatch),
                MAX_BATCH,
                Arc::new(move |batch| {
                    let db = for_claim.clone();
                    Box::pin(async move {
                        db.asked(Asker::Claim, LONGEST_BATCH, claim::claim(&db, lease, batch)).await
                    })
                }),
                observe("claim"),
            ),
            settle: Batcher::start(
                (tasks, Task::SettleBatch),
                MAX_BATCH,
                Arc::new(move |batch| {
                    let db = for_settle.clone();
                    Box::pin(async move {
                        db.asked(Asker::Settle, LONGEST_BATCH, settle::settle(&db, batch)).await
                    })
                }),
                observe("settle"),
            ),
            db: db.clone(),
        }
    }

    /// Who is named for the event, and what is known of it.
    pub async fn look_up(&self, event: &Arc<Event>) -> Result<plan::Findings, db::Error> {
        until_back(|| self.plan.submit(Arc::clone(event))).await
    }

    /// Writes a row without an attempt, unless there is one.
    pub async fn record(&self, request: &record::Request) -> Result<bool, db::Error> {
        until_back(|| self.record.submit(request.clone())).await
    }

    /// Claims one delivery. Repeating the same request after a lost answer finds the claim its own.
    pub async fn claim(&self, request: &claim::Request) -> Result<claim::Answer, db::Error> {
        until_back(|| self.claim.submit(request.clone())).await
    }

    /// Records one outcome.
    pub async fn settle(&self, request: &settle::Request) -> Result<Settling, db::Error> {
        until_back(|| self.settle.submit(request.clone())).await
    }

    /// Writes the rows of an event for many. Does not wait for PostgreSQL: this may take minutes as it is, and the caller
    /// can defer the event instead.
    pub async fn write_all(
        &self,
        event: &Event,
        trace_id: Option<&str>,
        except: &[Recipient],
    ) -> Result<fan_out::Done, db::Error> {
        fan_out::write(&self.db, event, trace_id, except, fan_out::Limits::usual(Instant::now())).await
    }

    /// The next page of those rows that still wait for their first attempt to end. Does not wait either.
    pub async fn unfinished(&self, event: &Event, after: &str) -> Result<Vec<Recipient>, db::Error> {
        fan_out::unfinished(&self.db, event, after).await
    }
}

/// Asks again until PostgreSQL answers, or refuses a value in the question, which is the caller's to handle. That it has to
/// ask again is said by `db::health`, once for everybody.
async fn until_back<T, F: Future<Output = Result<T, db::Error>>>(
    mut ask: impl FnMut() -> F,
) -> Result<T, db::Error> {
    let mut delays: Option<Delays> = None;
    loop {
        match ask().await {
            Err(error) if error.is_away() => {
                tracing::trace!(%error, "waiting for PostgreSQL");
                let delay = delays.get_or_insert_with(patient).next().unwrap_or(LONGEST_WAIT);
                tokio::time::sleep(delay).await;
            }
            answer => return answer,
        }
    }
}

fn patient() -> Delays {
    Delays::new(FIRST_WAIT, LONGEST_WAIT, None)
}

/// A lost connection is replaced at once as a rule.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Between two questions to a database that is away. A living holder must settle before its claim can be taken over, so
/// this stays well below `delivery.takeover_grace`.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

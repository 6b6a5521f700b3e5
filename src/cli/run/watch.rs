//! Watches broker and database while the pipeline works.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::amqp::{Broker, Health, LinkHealth, TopologyError};
use crate::clock;
use crate::db::health::Asker;
use crate::db::migrate::{self, MigrateError};
use crate::db::shape::Difference;
use crate::db::{Database, probe};
use crate::delays::Delays;
use crate::health::{StallDetector, Stalled};
use crate::lifecycle::{Beat, Part, Readiness};
use crate::metrics::Metrics;

/// How often database and queues are polled: readiness and depths are seconds old at most, at negligible cost.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Longer: an alarm is noticed later. Shorter: no benefit.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// The query takes a millisecond. Shorter: a busy moment of PostgreSQL would close all our connections. Longer: living owners
/// would settle late after a failover.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// Follows the broker's connections. Ends when the broker is closed.
pub(super) async fn broker(mut health: watch::Receiver<Health>, readiness: Readiness, metrics: Arc<Metrics>) {
    loop {
        let now = health.borrow_and_update().clone();
        metrics.broker_up(now.is_up());
        metrics.broker_blocked(now.publishing.blocked);
        readiness.set(Part::BrokerConsuming, state(now.consuming()));
        readiness.set(Part::BrokerPublishing, state(&now.publishing));
        if health.changed().await.is_err() {
            // Only closing the broker ends the updates, and that happens after the stop.
            return std::future::pending().await;
        }
    }
}

fn state(link: &LinkHealth) -> Result<(), String> {
    match (link.up, link.blocked) {
        (true, false) => Ok(()),
        (true, true) => Err("blocked by the broker: it has a memory or disk alarm".to_owned()),
        (false, _) => Err(link.problem.clone().unwrap_or_else(|| "connecting".to_owned())),
    }
}

/// Publishes a probe regularly: a broker reports an alarm only to clients that publish, and a daemon without retries does not
/// publish. The result shows in the broker's health.
pub(super) async fn probe(broker: Arc<Broker>, beat: Arc<Beat>) {
    let publisher = broker.publisher();
    loop {
        beat.beat();
        if let Err(error) = publisher.probe().await {
            tracing::debug!(%error, "the broker accepts no messages");
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

/// Follows the consumer of fresh events.
pub(super) async fn consumer(mut attached: watch::Receiver<bool>, readiness: Readiness) {
    loop {
        let here = *attached.borrow_and_update();
        readiness.set(Part::Consumer, if here { Ok(()) } else { Err("not subscribed".to_owned()) });
        if attached.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Whether PostgreSQL works: by the results of the pipeline's statements, and by a probe, since without traffic a fault would not
/// be noticed.
pub(super) async fn database(db: Database, readiness: Readiness, metrics: Arc<Metrics>, beat: Arc<Beat>) {
    let mut health = db.health().watch();
    let mut fit = false;
    loop {
        beat.beat();
        let tables = tables(&db, &mut fit).await;
        let probed = match &tables {
            Ok(()) => db.asked(Asker::Probe, SIGN_OF_LIFE, probe::probe(&db)).await,
            Err(_) => Ok(()),
        };
        let probed = probed.map_err(|error| error.to_string());
        let next_look = Instant::now() + LOOK_EVERY;
        loop {
            let met = health.borrow_and_update().clone().map_or(Ok(()), Err);
            let state = tables.clone().and(met).and(probed.clone());
            metrics.database_up(state.is_ok());
            readiness.set(Part::Database, state);
            if tokio::time::timeout_at(next_look, health.changed()).await.is_err() {
                break;
            }
        }
    }
}

/// Whether the tables are those of this release. Their shape is checked until it is right; a later change shows as failing
/// statements.
async fn tables(db: &Database, fit: &mut bool) -> Result<(), String> {
    match db.heard_within(SIGN_OF_LIFE, migrate::missing(db)).await {
        Ok(None) if *fit => Ok(()),
        Ok(None) => {
            let examined = db.heard_within(SIGN_OF_LIFE, migrate::examine(db)).await;
            *fit = examined.is_ok();
            examined.map(drop).map_err(|error| error.to_string())
        }
        Ok(Some(missing)) => {
            Err(format!("migration {} is missing: run `wechat-notifier migrate`", missing.version))
        }
        Err(error) => {
            if let MigrateError::Database(error) = &error {
                db.health().note::<()>(Asker::Probe, &Err(error.clone()));
            }
            Err(error.to_string())
        }
    }
}

/// How often progress is checked.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Whether the messages in hand make progress. While another part is missing, that part is the reason and is reported instead.
pub(super) async fn progress(
    detector: Arc<StallDetector>,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    beat: Arc<Beat>,
) {
    loop {
        beat.beat();
        if readiness.missing().iter().any(|missing| missing.part != Part::Progress.as_str()) {
            detector.excuse_stall();
        }
        let stalled = detector.stalled();
        metrics.stalled(stalled.as_ref().map_or(Duration::ZERO, |stalled| stalled.since));
        let state =
            stalled.filter(|stalled| stalled.since >= detector.stall_after()).map_or(Ok(()), standstill);
        readiness.set(Part::Progress, state);
        metrics.ready(readiness.missing().is_empty());
        tokio::time::sleep(PROGRESS_EVERY).await;
    }
}

fn standstill(Stalled { in_hand, since }: Stalled) -> Result<(), String> {
    let since_s = since.as_secs();
    Err(format!(
        "{in_hand} messages are in hand and none was settled for {since_s} s; look at the metrics in_flight and \
         attempt_seconds, and at WeChat and the network"
    ))
}

/// Counts the messages in each queue, and declares deleted queues again.
pub(super) async fn queues(broker: Arc<Broker>, metrics: Arc<Metrics>, beat: Arc<Beat>) {
    let queues = broker.topology().queues();
    let (mut was_missing, mut complaint) = (false, String::new());
    loop {
        beat.beat();
        match broker.depths(&queues).await {
            Ok(depths) => {
                let is_missing = depths.len() < queues.len();
                for (queue, messages) in depths {
                    if queue == broker.topology().dead() {
                        metrics.dead_letters_lie(messages, clock::now());
                    }
                    metrics.queue_depth(&queue, messages, clock::now());
                }
                // Only the second time: a consumer declares its own queue, and RabbitMQ 3.10 fails on two declarations at once.
                restore(&broker, is_missing && was_missing, &mut complaint).await;
                was_missing = is_missing;
            }
            Err(error) => tracing::debug!(%error, "cannot read queue depths"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn restore(broker: &Broker, queues: bool, complaint: &mut String) {
    if queues {
        tracing::warn!("one of our queues is missing; declaring it again");
    }
    let refusal = broker.restore(queues).await.err().filter(TopologyError::needs_a_person);
    let refusal = refusal.map(|error| error.to_string()).unwrap_or_default();
    if !refusal.is_empty() && refusal != *complaint {
        tracing::error!(why = refusal, "cannot declare a missing exchange or queue");
    }
    *complaint = refusal;
}

/// Checks the tables before anything is consumed, and applies missing migrations where configured. Tables of another shape end
/// the start. If PostgreSQL cannot be reached, the start waits where it must migrate; otherwise [`database`] checks the tables
/// later.
pub(super) async fn tables_when_there(
    db: &Database,
    migrates: bool,
    readiness: &Readiness,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut delays = Delays::reconnect();
    loop {
        let looked_at =
            if migrates { migrate::apply(db).await.map(drop) } else { migrate::examine(db).await.map(drop) };
        let Err(error) = looked_at else { return Ok(()) };
        readiness.set(Part::Database, Err(error.to_string()));
        if !error.is_away() {
            tell_differences(&error);
            return Err(error.into());
        }
        if !migrates {
            return Ok(());
        }
        tracing::warn!(%error, "waiting for PostgreSQL");
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(delays.next().unwrap_or(LOOK_EVERY)) => {}
        }
    }
}

/// Each difference on a line of its own: the error itself names only the first.
fn tell_differences(error: &MigrateError) {
    let MigrateError::Shape(differences) = error else { return };
    for Difference { table, column, found, expected, sql } in differences {
        let sql = sql.join(" ");
        tracing::error!(
            table,
            column,
            found,
            expected,
            sql,
            "a table does not have the shape that this release needs"
        );
    }
}

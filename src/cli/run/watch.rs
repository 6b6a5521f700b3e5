//! What keeps an eye on broker and database while the pipeline works.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::amqp::{Broker, Health, LinkHealth};
use crate::db::{Database, migrate};
use crate::delays::Delays;
use crate::lifecycle::{Part, Readiness};
use crate::metrics::Metrics;

/// Between two looks at database and queues: readiness and depths are seconds old at most, at a cost nobody notices.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The question takes a millisecond. Sooner, and a busy moment of PostgreSQL would cost us every connection; later, and
/// living holders would be late to settle after a failover.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// Follows the broker's connections. Ends when the broker is closed.
pub(super) async fn broker(mut health: watch::Receiver<Health>, readiness: Readiness, metrics: Arc<Metrics>) {
    loop {
        let now = health.borrow_and_update().clone();
        metrics.broker_blocked(now.publishing.blocked);
        readiness.set(Part::BrokerConsuming, state(now.consuming()));
        readiness.set(Part::BrokerPublishing, state(&now.publishing));
        if health.changed().await.is_err() {
            // Only a close ends the news, and that comes after the stop.
            return std::future::pending().await;
        }
    }
}

fn state(link: &LinkHealth) -> Result<(), String> {
    match (link.up, link.blocked) {
        (true, false) => Ok(()),
        (true, true) => Err("blocked by the broker: its memory or disk alarm is on".to_owned()),
        (false, _) => Err(link.trouble.clone().unwrap_or_else(|| "connecting".to_owned())),
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

/// Asks the database for a sign of life, and whether its tables are this release's.
pub(super) async fn database(db: Database, readiness: Readiness) {
    loop {
        let state = match db.heard_within(SIGN_OF_LIFE, migrate::missing(&db)).await {
            Ok(None) => Ok(()),
            Ok(Some(missing)) => {
                Err(format!("migration {} is missing: run `wechat-notifier migrate`", missing.version))
            }
            Err(error) => Err(error.to_string()),
        };
        readiness.set(Part::Database, state);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Counts what waits in each queue.
pub(super) async fn depths(broker: Arc<Broker>, metrics: Arc<Metrics>) {
    loop {
        match broker.depths(&broker.topology().queues()).await {
            Ok(depths) => {
                for (queue, messages) in depths {
                    metrics.queue_depth(&queue, u32::try_from(messages).unwrap_or(u32::MAX));
                }
            }
            Err(error) => tracing::debug!(%error, "queue depths are not to be had"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Applies missing migrations as soon as the database is there. A database that is away is waited for; one that holds
/// something else than ours ends the start.
pub(super) async fn migrate_when_there(db: &Database, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut delays = Delays::reconnect();
    loop {
        match migrate::apply(db).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_away() => tracing::warn!(%error, "waiting for PostgreSQL"),
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(delays.next().unwrap_or(LOOK_EVERY)) => {}
        }
    }
}

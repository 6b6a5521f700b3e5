//! What waits at the broker, for an event that the database does not know.

use std::time::Duration;

use anyhow::Result;

use crate::amqp::{Guest, Topology};
use crate::config::Config;
use crate::domain::ids::AppId;

/// A healthy broker takes well under a second, and the answer is not essential to the command.
const BROKER_PATIENCE: Duration = Duration::from_secs(3);
/// Apps whose lanes are checked. Each missing lane costs the broker a channel.
const MAX_LANES: usize = 200;

/// What could be seen.
pub enum AtBroker {
    /// Queues with messages in them, and how many.
    Depths(Vec<(String, u64)>),
    /// Why nothing could be seen.
    Unseen(String),
}

/// Checks every queue that an event may wait in, and the lanes of these apps.
pub async fn at_broker(config: &Config, apps: impl Iterator<Item = AppId>) -> AtBroker {
    match depths(config, apps).await {
        Ok(depths) => AtBroker::Depths(depths),
        Err(error) => AtBroker::Unseen(error.to_string()),
    }
}

async fn depths(config: &Config, apps: impl Iterator<Item = AppId>) -> Result<Vec<(String, u64)>> {
    let topology = Topology::new(&config.amqp.prefix, &config.retry.delays);
    let lanes = apps.take(MAX_LANES).map(|app_id| topology.lane(&app_id));
    let queues: Vec<String> = topology.queues().into_iter().chain(lanes).collect();
    let broker = Guest::start(&config.amqp, topology)?;
    let depths = match broker.ready(BROKER_PATIENCE).await {
        Ok(()) => broker.depths(&queues).await.map_err(anyhow::Error::from),
        Err(error) => Err(error.into()),
    };
    broker.close().await;
    let mut depths = depths?;
    depths.retain(|(_, messages)| *messages > 0);
    Ok(depths)
}

//! `publish`: publishes an event as a business system would.

mod composed;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use self::composed::Composed;
use super::Exit;
use super::output::line;
use crate::amqp::{Broker, Guest, Message, PublishError, Route, Topology};
use crate::clock;
use crate::config::Config;
use crate::domain::event::{Arrival, Event};
use crate::lifecycle::Tasks;

/// A healthy broker takes well under a second.
const BROKER_PATIENCE: Duration = Duration::from_secs(10);
/// Far above what the daemon accepts, so that its limit can be tested.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

#[derive(Debug, Args)]
#[command(after_help = "Example:
  wechat-notifier publish event.json
  echo '{\"event_id\":\"pay-17\", …}' | wechat-notifier publish -
  wechat-notifier publish --event-id pay-17 --company C001 --app-id wx0123456789abcdef \\
      --template-id TEMPLATE --data amount1=¥100.00 --data thing2=广州至北京

Exits with code 0 only after the broker has confirmed the event.
Needs only the permission to write to the exchange of events, which the daemon
declares when it starts.")]
pub struct Publish {
    /// File with the event as JSON, or - for standard input
    #[arg(value_name = "FILE", conflicts_with = "event_id", required_unless_present = "event_id")]
    file: Option<PathBuf>,
    #[command(flatten)]
    composed: Composed,
    /// Routing key; the event queue is bound to all keys
    #[arg(long, value_name = "KEY", default_value = "notification")]
    routing_key: String,
    /// Publish without checking the event (an invalid one becomes a dead letter)
    #[arg(long)]
    unchecked: bool,
}

impl Publish {
    pub async fn execute(self, config: &Config) -> Result<Exit> {
        let body = self.body()?;
        let event_id = match checked(&body, config) {
            Ok(event_id) => Some(event_id),
            Err(_) if self.unchecked => None,
            Err(fault) => bail!("{fault}; --unchecked publishes it anyway"),
        };
        let message = Message {
            timestamp: u64::try_from(clock::now().as_second()).ok(),
            message_id: event_id.clone(),
            ..Message::json(body)
        };
        publish(config, &self.routing_key, message).await?;
        line(&format!("published {}", event_id.as_deref().unwrap_or("an unchecked message")))?;
        Ok(Exit::Done)
    }

    fn body(&self) -> Result<Vec<u8>> {
        match &self.file {
            None => self.composed.body(),
            Some(path) if path == Path::new("-") => {
                read_bounded(std::io::stdin()).context("cannot read the event from standard input")
            }
            Some(path) => {
                let shown = || format!("cannot read {}", path.display());
                read_bounded(std::fs::File::open(path).with_context(shown)?).with_context(shown)
            }
        }
    }
}

fn read_bounded(source: impl Read) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    source.take(MAX_FILE_BYTES).read_to_end(&mut body)?;
    Ok(body)
}

/// The id of a valid event; otherwise what is wrong with it, in the daemon's words.
fn checked(body: &[u8], config: &Config) -> Result<String> {
    let arrival = Arrival {
        message_id: None,
        timestamp: None,
        first_seen: clock::now(),
        default_ttl: config.delivery.default_ttl,
    };
    Ok(Event::decode(body, &arrival)?.event_id.to_string())
}

async fn publish(config: &Config, routing_key: &str, message: Message) -> Result<()> {
    let topology = Topology::new(&config.amqp.prefix, &config.retry.delays);
    let exchange = topology.events();
    let route = Route::exchange(exchange.as_str(), routing_key);
    let published = match publish_as_guest(config, &topology, &route, &message).await? {
        // No daemon has run yet. If this user may declare the exchange, there is no need to wait for one.
        Err(PublishError::NoExchange | PublishError::Unroutable) if declared(config, &topology).await => {
            publish_as_guest(config, &topology, &route, &message).await?
        }
        published => published,
    };
    published.map_err(|error| not_stored(error, &exchange))
}

async fn publish_as_guest(
    config: &Config,
    topology: &Topology,
    route: &Route,
    message: &Message,
) -> Result<Result<(), PublishError>> {
    let broker = Guest::start(&config.amqp, topology.clone())?;
    broker.ready(BROKER_PATIENCE).await?;
    let published = broker.publisher().publish(route.clone(), message.clone()).await;
    broker.close().await;
    Ok(published)
}

/// Declares what the daemon would; false where this user may not.
async fn declared(config: &Config, topology: &Topology) -> bool {
    let Ok(broker) = Broker::start(&config.amqp, topology.clone(), &Tasks::default()) else { return false };
    let is_ready = broker.ready(BROKER_PATIENCE).await.is_ok();
    broker.close().await;
    is_ready
}

fn not_stored(error: PublishError, exchange: &str) -> anyhow::Error {
    let so = match error {
        PublishError::NoExchange | PublishError::Unroutable => {
            format!(
                "{exchange} does not exist or has no queue; a running daemon declares both within seconds"
            )
        }
        PublishError::Blocked => {
            "it may still store the event after the alarm; publishing it again then is safe".to_owned()
        }
        PublishError::Forbidden => format!("the user needs the permission to write to {exchange}"),
        PublishError::Refused | PublishError::Away => {
            "publish it again: an event_id is processed once".to_owned()
        }
    };
    anyhow!("the broker has not stored the event: {error}; {so}")
}

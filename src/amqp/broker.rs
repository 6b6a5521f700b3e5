//! The broker as the rest of the daemon sees it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::consumer::Subscription;
use super::declare::TopologyError;
use super::guarded::Guarded;
use super::health::{Health, LinkHealth, update};
use super::link::{Address, Blueprint, Link};
use super::live::depths;
use super::publisher::Publisher;
use super::request::{LinkError, farewell, in_time};
use super::topology::Topology;
use super::wire::short;
use crate::config;
use crate::lifecycle::{Task, Tasks};

/// A dead peer is noticed after twice this. The documentation recommends 5 to 20 s; lower would disconnect from a busy broker.
const HEARTBEAT_SECONDS: u16 = 20;
/// Acks still to be written when we close get this long. What is not written comes again and meets the ledger.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Closing a connection takes one answer of the broker's.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there can be no broker: a fault of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The URL itself holds the password, so it is not repeated.
    #[error("amqp.url is not an AMQP URL: {0}")]
    Url(&'static str),
    #[error("cannot read amqp.ca_file {path}")]
    CaFile { path: String, source: std::io::Error },
}

/// The broker was not there in time.
#[derive(Debug, thiserror::Error)]
#[error("the broker is not there after {}s: {problem}", .waited.as_secs())]
pub struct NotReady {
    waited: Duration,
    problem: String,
}

impl NotReady {
    pub(super) fn after(waited: Duration, problem: Option<&str>) -> Self {
        Self { waited, problem: problem.unwrap_or("stopped").to_owned() }
    }
}

/// All connections, kept alive until [`Broker::close`]. Clones share them.
#[derive(Clone)]
pub struct Broker {
    topology: Arc<Topology>,
    /// What ends the consumer of one queue together with its connection harms no other queue.
    events: Link,
    dead_letters: Link,
    deliveries: Link,
    health: watch::Receiver<Health>,
    publisher: Publisher,
    stale_acks: Arc<AtomicU64>,
    /// Ack tasks with acks to write.
    ackers: Guarded,
    supervisors: Guarded,
    stop: CancellationToken,
}

impl Broker {
    /// Starts connecting and returns at once; a broker that is down is waited for, and shows in [`Broker::health`].
    /// Must be called inside a tokio runtime. `tasks` looks after everything that runs behind it.
    pub fn start(config: &config::Amqp, topology: Topology, tasks: &Tasks) -> Result<Self, SetupError> {
        let topology = Arc::new(topology);
        let blueprint = Arc::new(Blueprint {
            address: address(config)?,
            topology: topology.clone(),
            declared: Some(tokio::sync::Mutex::default()),
        });
        let (stop, supervisors) = (CancellationToken::new(), Guarded::new(tasks));
        let (health_in, health) = watch::channel(Health::default());
        let link = |name, side: fn(&mut Health) -> &mut LinkHealth| {
            let health = health_in.clone();
            let report = move |link: LinkHealth| update(&health, side, link);
            let (link, supervisor) = Link::start(name, blueprint.clone(), report, stop.clone());
            supervisors.spawn(Task::BrokerLink, supervisor);
            link
        };
        let events = link("events", |health| &mut health.events);
        let deliveries = link("deliveries", |health| &mut health.deliveries);
        let dead_letters = link("dead_letters", |health| &mut health.dead_letters);
        let publishing = link("publishing", |health| &mut health.publishing);

        let publisher = Publisher::start(publishing, topology.clone(), &supervisors);
        let (stale_acks, ackers) = (Arc::default(), Guarded::new(tasks));
        Ok(Self {
            topology,
            events,
            dead_letters,
            deliveries,
            health,
            publisher,
            stale_acks,
            ackers,
            supervisors,
            stop,
        })
    }

    /// The names of everything at this broker.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// How the connections are, as it changes.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Waits until the connections are up. For commands that want to fail instead of waiting forever.
    pub async fn ready(&self, patience: Duration) -> Result<(), NotReady> {
        let mut health = self.health.clone();
        let up = tokio::time::timeout(patience, health.wait_for(Health::is_up)).await.is_ok();
        if up {
            return Ok(());
        }
        Err(NotReady::after(patience, self.health.borrow().problem()))
    }

    /// Publishes with confirms. Clones share one channel.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Consumes `queue` (declared first, so lanes come to be here) with at most `prefetch` messages unacked, across
    /// reconnects, until the subscription is cancelled or dropped.
    pub fn consume(&self, queue: &str, prefetch: u16) -> Subscription {
        let link = self.link_to(queue).clone();
        Subscription::start(link, &self.topology, queue, prefetch, &self.stale_acks, &self.ackers)
    }

    fn link_to(&self, queue: &str) -> &Link {
        match queue {
            events if events == self.topology.events() => &self.events,
            dead_letters if dead_letters == self.topology.dead() => &self.dead_letters,
            _ => &self.deliveries,
        }
    }

    /// Declares again what somebody has deleted: the exchanges with their bindings, and the queues too where `queues` says
    /// that one is missing. Changes nothing where all is there.
    pub async fn restore(&self, queues: bool) -> Result<(), TopologyError> {
        let channel = self.deliveries.now().ok_or(LinkError::Away)?.channel().await?;
        match queues {
            true => self.topology.declare(&channel).await?,
            false => self.topology.declare_exchanges(&channel).await?,
        }
        farewell(channel).await;
        Ok(())
    }

    /// How many messages wait in each queue (those in somebody's hands not counted); a queue that does not exist is
    /// left out.
    pub async fn depths(&self, queues: &[String]) -> Result<Vec<(String, u64)>, LinkError> {
        depths(&*self.deliveries.now().ok_or(LinkError::Away)?, queues).await
    }

    /// How many consumers a queue has, over all connections.
    pub async fn consumers(&self, queue: &str) -> Result<u32, LinkError> {
        let channel = self.deliveries.now().ok_or(LinkError::Away)?.channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let asked = channel.queue_declare(short(queue), options, FieldTable::default());
        let answer = in_time("queue.declare (passive)", asked).await?;
        farewell(channel).await;
        Ok(answer.consumer_count())
    }

    /// Ack handles whose ack came too late, because their channel was gone: their messages come again.
    pub fn stale_acks(&self) -> u64 {
        self.stale_acks.load(Ordering::Relaxed)
    }

    /// Writes the acks that are still to be written, then closes the connections. Call it after the last ack handle and
    /// subscription are gone.
    pub async fn close(&self) {
        if tokio::time::timeout(FLUSH_TIMEOUT, self.ackers.ended()).await.is_err() {
            warn!("closing with unacked messages; the broker will redeliver them");
        }
        self.stop.cancel();
        if tokio::time::timeout(CLOSE_TIMEOUT, self.supervisors.ended()).await.is_err() {
            // One whose connection lost its keeper by a panic would wait forever.
            warn!("a broker connection does not close in time; abandoning it");
        }
    }
}

pub(super) fn address(config: &config::Amqp) -> Result<Address, SetupError> {
    let mut uri = parse(config.url.expose_secret()).map_err(SetupError::Url)?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    let authority = config.ca_file.as_deref().map(read_authority).transpose()?;
    Ok(Address { uri, authority })
}

fn parse(url: &str) -> Result<AMQPUri, &'static str> {
    // The library's own words may repeat the URL, password and all. And it takes `[::1]` for no host: localhost.
    match url.split_once("://") {
        Some(("amqp" | "amqps", rest)) if rest.contains("@[") || rest.starts_with('[') => {
            Err("an IPv6 address needs a host name")
        }
        Some(("amqp" | "amqps", _)) => url.parse().map_err(|_| "see amqp://user:password@host:5672/%2f"),
        _ => Err("it starts with amqp:// or amqps://"),
    }
}

fn read_authority(path: &Path) -> Result<String, SetupError> {
    std::fs::read_to_string(path)
        .map_err(|source| SetupError::CaFile { path: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_refused_without_being_repeated() {
        for url in ["http://me:secret@host", "amqp:me:secret@host", "amqp://me:secret@[::1]/", "secret"] {
            let error = SetupError::Url(parse(url).unwrap_err()).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        assert_eq!(parse("amqps://me:secret@broker/%2f").unwrap().authority.port, 5671);
    }
}

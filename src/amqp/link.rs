//! One supervised connection: built, watched, torn down as a whole at the first oddity, built again.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, Event};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::declare::TopologyError;
use super::health::LinkHealth;
use super::live::Live;
use super::request::{CLOSE_TIMEOUT, LinkError, farewell, within};
use super::stream;
use super::topology::Topology;
use crate::delays::Delays;

/// lapin ignores a timeout in the URI; without this one a firewall that swallows packets holds us for minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// lapin does not announce every way a connection can end, so its status is looked at too.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A connection that lived this long was a good one: the next pause is short again. Sooner, flapping would be a storm.
const PROVEN_AFTER: Duration = Duration::from_secs(10);

/// Where to connect, and as whom.
pub(super) struct Address {
    pub uri: AMQPUri,
    /// PEM of an extra certificate authority.
    pub authority: Option<String>,
}

/// Everything one incarnation of a connection needs from outside.
pub(super) struct Blueprint {
    pub address: Address,
    pub topology: Arc<Topology>,
    /// Two links of a process must not declare the same queue at the same instant, and one of them is enough: when the
    /// topology was last declared. `None`: it is not ours to declare.
    pub declared: Option<tokio::sync::Mutex<Option<Instant>>>,
}

/// All links of a process come up together as a rule; each declaring a dozen queues would only slow a busy broker down.
const DECLARED_FOR: Duration = Duration::from_secs(5);

/// The handle of a supervised connection: gives out the incarnation that currently lives.
#[derive(Clone)]
pub(super) struct Link {
    live: watch::Receiver<Option<Arc<Live>>>,
}

impl Link {
    /// Starts supervising; connects at once and keeps trying until `stop`. `name` is for the log and the broker's list.
    pub fn start(
        name: &'static str,
        blueprint: Arc<Blueprint>,
        health: impl Fn(LinkHealth) + Send + Sync + 'static,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (live_in, live) = watch::channel(None);
        let supervisor = Supervisor { name, blueprint, health: Box::new(health), live: live_in, stop };
        (Self { live }, supervisor.run())
    }

    /// The incarnation that lives now, if any.
    pub fn now(&self) -> Option<Arc<Live>> {
        self.live.borrow().clone()
    }

    /// Waits until there is one; `None` once the link has stopped.
    pub async fn live(&mut self) -> Option<Arc<Live>> {
        let living = |live: &Option<Arc<Live>>| live.as_ref().is_some_and(|live| !live.over().is_cancelled());
        self.live.wait_for(living).await.ok()?.clone()
    }
}

struct Supervisor {
    name: &'static str,
    blueprint: Arc<Blueprint>,
    health: Box<dyn Fn(LinkHealth) + Send + Sync>,
    live: watch::Sender<Option<Arc<Live>>>,
    stop: CancellationToken,
}

impl Supervisor {
    async fn run(self) {
        let stop = self.stop.clone();
        let mut delays = Delays::reconnect();
        let mut complaint = String::new();
        for incarnation in 1.. {
            let built = tokio::select! {
                built = self.build(incarnation) => built,
                () = stop.cancelled() => return,
            };
            match built {
                Ok(live) => {
                    complaint.clear();
                    let born = Instant::now();
                    self.live_through(&live).await;
                    if born.elapsed() >= PROVEN_AFTER {
                        delays.reset();
                    }
                }
                Err(error) => self.complain(&error, &mut complaint),
            }
            let Some(delay) = delays.next() else { return };
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Connects and declares: an incarnation is worth having only with the topology in place.
    async fn build(&self, incarnation: u64) -> Result<Arc<Live>, TopologyError> {
        let live = Live::new(self.connect().await?, incarnation);
        let declared = self.declare(&live).await;
        if let Err(error) = declared {
            close(&live).await;
            return Err(error);
        }
        Ok(Arc::new(live))
    }

    async fn connect(&self) -> Result<Connection, LinkError> {
        let Address { uri, authority } = &self.blueprint.address;
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("wechat-notifier {}", self.name).into());
        let tls = OwnedTLSConfig { identity: None, cert_chain: authority.clone() };
        within(CONNECT_TIMEOUT, "connect", stream::connect(uri.clone(), properties, tls)).await
    }

    /// On a channel of its own, because a mismatch closes it.
    async fn declare(&self, live: &Live) -> Result<(), TopologyError> {
        let Some(declared) = &self.blueprint.declared else { return Ok(()) };
        let mut declared = declared.lock().await;
        if declared.is_some_and(|at| at.elapsed() < DECLARED_FOR) {
            return Ok(());
        }
        let channel = live.channel().await?;
        self.blueprint.topology.declare(&channel).await?;
        *declared = Some(Instant::now());
        farewell(channel).await;
        Ok(())
    }

    /// Offers the incarnation until it is over, then takes it down.
    async fn live_through(&self, live: &Arc<Live>) {
        let (connection, incarnation) = (self.name, live.incarnation);
        info!(connection, incarnation, "connected to the broker");
        self.live.send_replace(Some(live.clone()));
        self.report(live);
        self.watch(live).await;
        self.live.send_replace(None);
        (self.health)(LinkHealth { problem: Some(live.verdict()), ..LinkHealth::default() });
        self.tell_end(live);
        close(live).await;
    }

    fn tell_end(&self, live: &Live) {
        let (connection, incarnation, why) = (self.name, live.incarnation, live.verdict());
        if self.stop.is_cancelled() {
            info!(connection, "closing the connection to the broker");
        } else {
            warn!(connection, incarnation, why, "lost the connection to the broker");
        }
    }

    /// Returns when the incarnation is over, with its verdict spoken.
    async fn watch(&self, live: &Live) {
        let mut events = pin!(live.connection.events_listener());
        // The first look is at once: an end before anybody listened left no event.
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return live.condemn("stopped"),
                () = live.over().cancelled() => return,
                event = events.next() => match event {
                    // lapin reports the end of a single channel here too; that is its user's matter.
                    Some(Event::Error(error)) if error.is_amqp_soft_error() => {}
                    Some(Event::Error(error)) => return live.condemn(&error),
                    Some(_) => self.report(live),
                    None => live.condemn("lapin stopped responding"),
                },
                _ = look.tick() => {
                    if !live.connection.status().connected() {
                        live.condemn("closed without an error");
                    }
                    self.report(live);
                }
            }
        }
    }

    fn report(&self, live: &Live) {
        live.note_blocked();
        (self.health)(LinkHealth { up: true, blocked: live.blocked(), problem: None });
    }

    /// Says why there is no connection: loudly when the reason is new, softly while it stays.
    fn complain(&self, error: &TopologyError, last: &mut String) {
        let text = error.to_string();
        (self.health)(LinkHealth { problem: Some(text.clone()), ..LinkHealth::default() });
        let connection = self.name;
        match (*last == text, error.needs_a_person()) {
            (true, _) => debug!(connection, why = text, "still no connection to the broker"),
            (false, true) => error!(connection, why = text, "the broker cannot be used as configured"),
            (false, false) => warn!(connection, why = text, "cannot connect to the broker; retrying"),
        }
        *last = text;
    }
}

async fn close(live: &Live) {
    if live.connection.status().connected() {
        let closing = live.connection.close(200, "bye".into());
        if let Err(error) = within(CLOSE_TIMEOUT, "connection.close", closing).await {
            debug!(%error, "the broker did not confirm the close");
        }
    }
}

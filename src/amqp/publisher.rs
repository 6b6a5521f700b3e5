//! Publishing with confirms: one task owns the channel, callers share it through [`Publisher`].
//!
//! One owner, because a confirm channel shared by tasks hands out other messages' verdicts (docs/STACK.md#a-confirm-channel-has-one-owner).
//! Whole batches, because lapin pins a returned message to an arbitrary confirm (row d): only when all verdicts of a
//! batch are in is it known which routes have nobody at their end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::confirm::ConfirmChannel;
use super::guarded::Guarded;
use super::link::Link;
use super::live::Live;
use super::message::Message;
use super::outgoing::{Outgoing, PublishError, Request, Route};
use super::topology::Topology;
use crate::delays::Delays;
use crate::lifecycle;

/// Requests that may wait for the task before `publish` itself waits.
const BACKLOG: usize = 1024;
/// First and longest delay before the same message is published again. The longest bounds how long after the broker's
/// return a message still waits.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// Publishes messages, always persistent and mandatory. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    requests: mpsc::Sender<Request>,
    /// The name of no queue.
    nowhere: Arc<str>,
}

impl Publisher {
    pub(super) fn start(link: Link, topology: Arc<Topology>, tasks: &Guarded) -> Self {
        let (requests, received) = mpsc::channel(BACKLOG);
        let nowhere = topology.probe().into();
        tasks.spawn(lifecycle::Task::Publisher, Task { link, topology, received }.run());
        Self { requests, nowhere }
    }

    /// Publishes once. `Ok` means that the broker has stored it in at least one queue. Fails at once while there is no
    /// connection. A queue of ours that does not exist yet (a lane) is declared on the way.
    pub async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError> {
        self.ask(Outgoing { route, message, mandatory: true }).await
    }

    /// Whether the broker takes messages. It says that it does not (memory or disk alarm) only to those who publish, so
    /// this publishes one byte through the default exchange to no queue: it goes nowhere, touches no disk, and needs no
    /// permission that retries do not need. Not an empty message: that would be through before the broker says anything.
    pub async fn probe(&self) -> Result<(), PublishError> {
        let route = Route::queue(&*self.nowhere);
        self.ask(Outgoing { route, message: Message::json("0"), mandatory: false }).await
    }

    async fn ask(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { outgoing, answer }).await.map_err(|_| PublishError::Away)?;
        answered.await.unwrap_or(Err(PublishError::Away))
    }

    /// Publishes until the broker has stored it, however long that takes, or `stop` is cancelled: then the last error,
    /// and the message counts as not published. May store it twice.
    pub async fn publish_until_confirmed(
        &self,
        route: &Route,
        message: &Message,
        stop: &CancellationToken,
    ) -> Result<(), PublishError> {
        let mut delays = Delays::new(FIRST_DELAY, LONGEST_DELAY, None);
        loop {
            let Err(error) = self.publish(route.clone(), message.clone()).await else { return Ok(()) };
            match error {
                // The link says it, once for everybody.
                PublishError::Away | PublishError::Blocked => {
                    debug!(routing_key = route.routing_key, "waiting for the broker")
                }
                _ => {
                    warn!(routing_key = route.routing_key, %error, "cannot publish a message; retrying")
                }
            }
            let Some(delay) = delays.next() else { return Err(error) };
            if stop.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
                return Err(error);
            }
        }
    }
}

/// The owner of the confirm channel.
struct Task {
    link: Link,
    topology: Arc<Topology>,
    received: mpsc::Receiver<Request>,
}

impl Task {
    async fn run(mut self) {
        while self.with_connection().await {}
    }

    /// Serves until the connection is over, or refuses until there is one. False when nobody can ask any more.
    async fn with_connection(&mut self) -> bool {
        let Some(live) = self.refuse_until_live().await else { return false };
        match ConfirmChannel::open(live.clone(), self.topology.clone()).await {
            Ok(mut channel) => channel.serve(&mut self.received).await,
            Err(error) => {
                live.condemn(error);
                true
            }
        }
    }

    async fn refuse_until_live(&mut self) -> Option<Arc<Live>> {
        loop {
            tokio::select! {
                // First: nobody is refused while there is a connection.
                biased;
                live = self.link.live() => return live,
                request = self.received.recv() => request?.answer(Err(PublishError::Away)),
            }
        }
    }
}

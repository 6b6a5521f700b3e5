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
use super::topology::Topology;
use crate::delays::Delays;
use crate::lifecycle;

/// Requests that may wait for the task before `publish` itself waits.
const BACKLOG: usize = 1024;
/// First and longest delay before the same message is published again. The longest bounds how long after the broker's
/// return a message still waits.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    pub exchange: String,
    pub routing_key: String,
}

impl Route {
    /// Straight into a queue.
    pub fn queue(name: impl Into<String>) -> Self {
        Self { exchange: String::new(), routing_key: name.into() }
    }

    /// Through an exchange.
    pub fn exchange(name: impl Into<String>, routing_key: impl Into<String>) -> Self {
        Self { exchange: name.into(), routing_key: routing_key.into() }
    }
}

/// Why a publish is not known to have arrived. After `Away` and `Blocked` it may arrive all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No queue at the end of the route. Nothing was stored.
    #[error("no queue is bound for the message")]
    Unroutable,
    /// The broker said no (a full queue, an internal error). Nothing was stored, as far as it knows.
    #[error("the broker refused the message")]
    Refused,
    /// The exchange is not there. Nothing was stored.
    #[error("the exchange does not exist")]
    NoExchange,
    /// We may not publish there. Nothing was stored.
    #[error("the broker does not allow this user to publish there")]
    Forbidden,
    /// The broker takes no messages until its alarm is over; what was under way when it began is stored then.
    #[error("the broker accepts no messages: it has a memory or disk alarm")]
    Blocked,
    /// No connection, a connection lost before the answer, or no answer in time.
    #[error("cannot reach the broker")]
    Away,
}

/// Publishes messages, always persistent and mandatory. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    requests: mpsc::Sender<Request>,
    /// The name of no queue.
    nowhere: Arc<str>,
}

/// Where one publish is answered.
type Answer = oneshot::Sender<Result<(), PublishError>>;

/// One publish on its way to the task.
pub(super) struct Request {
    outgoing: Outgoing,
    answer: Answer,
}

/// What to publish.
pub(super) struct Outgoing {
    pub route: Route,
    pub message: Message,
    /// Whether it is a fault when no queue takes it.
    pub mandatory: bool,
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

impl Request {
    pub(super) fn answer(self, answer: Result<(), PublishError>) {
        // Whoever asked may have stopped waiting.
        let _ = self.answer.send(answer);
    }

    /// What to publish, and whom to tell.
    pub(super) fn split(self) -> (Outgoing, Answer) {
        (self.outgoing, self.answer)
    }

    /// The queue it goes straight into, if it does.
    pub(super) fn queue(&self) -> Option<&str> {
        let route = &self.outgoing.route;
        route.exchange.is_empty().then_some(route.routing_key.as_str())
    }
}

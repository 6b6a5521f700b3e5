//! What is published: where to, with which answer.

use tokio::sync::oneshot;

use super::message::Message;

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

/// Where one publish is answered.
pub(super) type Answer = oneshot::Sender<Result<(), PublishError>>;

/// One publish on its way to the task.
pub(super) struct Request {
    pub outgoing: Outgoing,
    pub answer: Answer,
}

/// What to publish.
pub(super) struct Outgoing {
    pub route: Route,
    pub message: Message,
    /// Whether it is a fault when no queue takes it.
    pub mandatory: bool,
}

impl Request {
    pub(super) fn answer(self, answer: Result<(), PublishError>) {
        // The caller may have stopped waiting.
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

//! Declaring one thing, and explaining why it cannot be.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};

use super::request::{LinkError, in_time};
use super::wire::short;

/// Why the topology does not stand.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TopologyError {
    /// A queue or exchange of that name exists, but is another one. It is never deleted by us.
    #[error(
        "{kind} {name} exists with {argument} = {is}, expected {wanted}; stop its publishers, let it run empty, then: {remedy}"
    )]
    Mismatch { kind: String, name: String, argument: String, is: String, wanted: String, remedy: String },
    /// The broker does not let us.
    #[error("the broker refuses to declare {name}: {answer}")]
    Refused { name: String, answer: String },
    /// No answer; says nothing about the topology.
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl TopologyError {
    /// Only a person can fix it: trying again will not help.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Mismatch { .. } | Self::Refused { .. } => true,
            Self::Link(error) => error.refusal().is_some(),
        }
    }
}

/// A durable queue. The channel is spent if it fails.
pub(super) async fn declare_queue(
    channel: &Channel,
    queue: &str,
    arguments: FieldTable,
) -> Result<(), TopologyError> {
    let declared = channel.queue_declare(short(queue), QueueDeclareOptions::durable(), arguments);
    in_time("queue.declare", declared).await.map(drop).map_err(|error| explain(queue, error))
}

/// A durable exchange.
pub(super) async fn declare_exchange(
    channel: &Channel,
    exchange: &str,
    kind: ExchangeKind,
) -> Result<(), TopologyError> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared = channel.exchange_declare(short(exchange), kind, options, FieldTable::default());
    in_time("exchange.declare", declared).await.map_err(|error| explain(exchange, error))
}

/// Binds a queue to the exchange of the same name.
pub(super) async fn bind(channel: &Channel, name: &str, key: &str) -> Result<(), TopologyError> {
    let options = QueueBindOptions::default();
    let bound = channel.queue_bind(short(name), short(name), short(key), options, FieldTable::default());
    in_time("queue.bind", bound).await.map_err(|error| explain(name, error))
}

/// Turns the broker's refusal into something a person can act on.
fn explain(name: &str, error: LinkError) -> TopologyError {
    let Some(answer) = error.refusal() else { return error.into() };
    mismatch(&answer).unwrap_or_else(|| TopologyError::Refused { name: name.to_owned(), answer })
}

/// Reads RabbitMQ's 406: `… inequivalent arg 'A' for queue 'Q' in vhost '/': received <wanted> but current is <is>`.
fn mismatch(answer: &str) -> Option<TopologyError> {
    let (_, rest) = answer.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once("' for ")?;
    let (kind, rest) = rest.split_once(" '")?;
    let (name, rest) = rest.split_once("' in vhost '")?;
    let (vhost, rest) = rest.split_once("': received ")?;
    let (wanted, is) = rest.split_once(" but current is ")?;
    let remedy = match kind {
        "queue" => format!("rabbitmqctl delete_queue --vhost '{vhost}' '{name}'"),
        // rabbitmqctl has no verb for exchanges.
        _ => format!("rabbitmqadmin --vhost='{vhost}' delete exchange name='{name}'"),
    };
    Some(TopologyError::Mismatch {
        kind: kind.to_owned(),
        name: name.to_owned(),
        argument: argument.to_owned(),
        is: value_in(is),
        wanted: value_in(wanted),
        remedy,
    })
}

/// `the value '50' of type 'signedint'` → `50`; `none` stays.
fn value_in(words: &str) -> String {
    words.split('\'').nth(1).unwrap_or(words).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_406_becomes_advice() {
        let error = mismatch(
            "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'wechat.events' in vhost '/': \
             received the value '50' of type 'signedint' but current is none",
        );
        assert_eq!(
            error.unwrap().to_string(),
            "queue wechat.events exists with x-delivery-limit = none, expected 50; stop its publishers, let it run \
             empty, then: rabbitmqctl delete_queue --vhost '/' 'wechat.events'"
        );
        assert!(mismatch("ACCESS_REFUSED - no").is_none());
    }
}

//! What stands at the broker: names, arguments, and how it is declared.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use super::link::{LinkError, in_time};
use super::publisher::Route;
use super::wire::short;
use crate::domain::ids::AppId;
use crate::domain::ladder::Ladder;

/// Redeliveries after which the broker gives a message up. Crashes and lost connections count against everything that was
/// prefetched, so a low limit would kill innocent messages; a high one lets a message that kills us do so too often.
const DELIVERY_LIMIT: i32 = 50;

/// Dead letters have nowhere further to go: past its limit the broker would *drop* one. RabbitMQ 4 limits a queue that
/// names no limit to 20, RabbitMQ 3.10 refuses a negative one, so the portable word for "never" is a huge number.
const NEVER: i32 = 1_000_000_000;

/// All names of one installation, and what belongs to each.
#[derive(Debug, Clone)]
pub struct Topology {
    prefix: String,
    delays: Vec<Duration>,
}

/// Why the topology does not stand.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TopologyError {
    /// A queue or exchange of that name exists, but is another one. It is never deleted by us.
    #[error(
        "{kind} {name} exists with {argument} = {is}, wanted is {wanted}; stop its publishers, let it run empty, then: {mend}"
    )]
    Mismatch { kind: String, name: String, argument: String, is: String, wanted: String, mend: String },
    /// The broker does not let us.
    #[error("the broker refuses to declare {name}: {answer}")]
    Refused { name: String, answer: String },
    /// No answer; says nothing about the topology.
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl TopologyError {
    /// Only a person can mend it: trying again will not help.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Mismatch { .. } | Self::Refused { .. } => true,
            Self::Link(error) => error.refusal().is_some(),
        }
    }
}

impl Topology {
    /// The names below `prefix` (by default `wechat`), with one retry queue per step of the ladder.
    pub fn new(prefix: &str, ladder: &Ladder) -> Self {
        Self { prefix: prefix.to_owned(), delays: ladder.delays().to_vec() }
    }

    /// The exchange that business systems publish to, and the queue of fresh events behind it.
    pub fn events(&self) -> String {
        self.name("events")
    }

    /// The queue where deliveries come back after their wait.
    pub fn deliveries(&self) -> String {
        self.name("deliveries")
    }

    /// The exchange and queue of everything given up.
    pub fn dead(&self) -> String {
        self.name("dead")
    }

    /// The queue that holds a message for `delay`, e.g. `wechat.retry.10s`. Declared only for steps of the ladder.
    pub fn retry(&self, delay: Duration) -> String {
        self.name(&format!("retry.{}", spell(delay)))
    }

    /// The queue where one app's messages wait alone. Declared on first use.
    pub fn lane(&self, app_id: &AppId) -> String {
        self.name(&format!("lane.{app_id}"))
    }

    /// Every queue that stands from the start on: all but the lanes.
    pub fn queues(&self) -> Vec<String> {
        let fixed = [self.events(), self.deliveries(), self.dead()];
        fixed.into_iter().chain(self.delays.iter().map(|delay| self.retry(*delay))).collect()
    }

    /// Whether `queue` is some app's lane.
    pub fn is_lane(&self, queue: &str) -> bool {
        queue.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with(".lane."))
    }

    /// Whether the route ends at a queue or exchange that we declare.
    pub(super) fn is_ours(&self, route: &Route) -> bool {
        match route.exchange.as_str() {
            "" => self.is_lane(&route.routing_key) || self.queues().contains(&route.routing_key),
            exchange => exchange == self.events() || exchange == self.dead(),
        }
    }

    /// Declares everything but the lanes. Idempotent; the channel is spent if it fails.
    pub(super) async fn declare(&self, channel: &Channel) -> Result<(), TopologyError> {
        // The landing place of dead letters first: what points at it must not stand without it.
        let order: BTreeSet<String> = self.queues().into_iter().collect();
        self.declare_queue(channel, &self.dead()).await?;
        for queue in order.iter().filter(|queue| **queue != self.dead()) {
            self.declare_queue(channel, queue).await?;
        }
        Ok(())
    }

    /// Declares one queue, with the exchange in front of it where it has one.
    pub(super) async fn declare_queue(&self, channel: &Channel, queue: &str) -> Result<(), TopologyError> {
        declare_queue(channel, queue, self.arguments(queue)).await?;
        if queue == self.events() {
            declare_exchange(channel, queue, ExchangeKind::Topic).await?;
            bind(channel, queue, "#").await?;
        } else if queue == self.dead() {
            declare_exchange(channel, queue, ExchangeKind::Fanout).await?;
            bind(channel, queue, "").await?;
        }
        Ok(())
    }

    /// Arguments cannot be changed later, so only what the promises rest on is one; the rest is the operator's policy.
    fn arguments(&self, queue: &str) -> FieldTable {
        if queue == self.dead() {
            return table([
                ("x-queue-type", text("quorum")),
                ("x-delivery-limit", AMQPValue::LongInt(NEVER)),
            ]);
        }
        // At-least-once works only together with reject-publish; alone it silently is at-most-once (facts: stack 2.1).
        let lossless = [
            ("x-queue-type", text("quorum")),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ];
        match self.delays.iter().find(|delay| self.retry(**delay) == queue) {
            Some(delay) => table(lossless.into_iter().chain([
                ("x-message-ttl", AMQPValue::LongLongInt(millis(*delay))),
                ("x-dead-letter-exchange", text("")),
                ("x-dead-letter-routing-key", text(&self.deliveries())),
            ])),
            None => table(lossless.into_iter().chain([
                ("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)),
                ("x-dead-letter-exchange", text(&self.dead())),
            ])),
        }
    }

    fn name(&self, rest: &str) -> String {
        format!("{}.{rest}", self.prefix)
    }
}

async fn declare_queue(channel: &Channel, queue: &str, arguments: FieldTable) -> Result<(), TopologyError> {
    let declared = channel.queue_declare(short(queue), QueueDeclareOptions::durable(), arguments);
    in_time("queue.declare", declared).await.map(drop).map_err(|error| explain(queue, error))
}

async fn declare_exchange(
    channel: &Channel,
    exchange: &str,
    kind: ExchangeKind,
) -> Result<(), TopologyError> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared = channel.exchange_declare(short(exchange), kind, options, FieldTable::default());
    in_time("exchange.declare", declared).await.map_err(|error| explain(exchange, error))
}

/// Binds a queue to the exchange of the same name.
async fn bind(channel: &Channel, name: &str, key: &str) -> Result<(), TopologyError> {
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
    let mend = match kind {
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
        mend,
    })
}

/// `the value '50' of type 'signedint'` → `50`; `none` stays.
fn value_in(words: &str) -> String {
    words.split('\'').nth(1).unwrap_or(words).to_owned()
}

/// As people write it, in the largest unit that fits: `250ms`, `10s`, `1m`, `2h`.
fn spell(delay: Duration) -> String {
    const UNITS: [(u128, &str); 3] = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let millis = delay.as_millis();
    match UNITS.iter().find(|(unit, _)| millis.is_multiple_of(*unit)) {
        Some((unit, letter)) => format!("{}{letter}", millis / unit),
        None => format!("{millis}ms"),
    }
}

fn millis(delay: Duration) -> i64 {
    i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn table(arguments: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(name.into(), value);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        let delays = [250, 10_000, 60_000, 90_000, 7_200_000].map(Duration::from_millis);
        Topology::new("wechat", &Ladder::new(delays.to_vec()).unwrap())
    }

    #[test]
    fn names_are_those_of_the_contract() {
        let topology = topology();
        assert_eq!(
            topology.queues(),
            [
                "wechat.events",
                "wechat.deliveries",
                "wechat.dead",
                "wechat.retry.250ms",
                "wechat.retry.10s",
                "wechat.retry.1m",
                "wechat.retry.90s",
                "wechat.retry.2h",
            ]
        );
        assert_eq!(topology.lane(&AppId::parse("wx01").unwrap()), "wechat.lane.wx01");
    }

    #[test]
    fn consumed_queues_give_up_into_dead_and_dead_never_gives_up() {
        let topology = topology();
        let arguments = topology.arguments("wechat.lane.wx01");
        assert_eq!(arguments.inner()["x-dead-letter-exchange"], text("wechat.dead"));
        assert_eq!(arguments.inner()["x-delivery-limit"], AMQPValue::LongInt(50));
        let dead = topology.arguments("wechat.dead");
        assert!(!dead.contains_key("x-dead-letter-exchange"));
        assert_eq!(dead.inner()["x-delivery-limit"], AMQPValue::LongInt(NEVER));
    }

    #[test]
    fn a_retry_queue_returns_to_deliveries_and_has_no_limit() {
        let arguments = topology().arguments("wechat.retry.90s");
        assert_eq!(arguments.inner()["x-message-ttl"], AMQPValue::LongLongInt(90_000));
        assert_eq!(arguments.inner()["x-dead-letter-exchange"], text(""));
        assert_eq!(arguments.inner()["x-dead-letter-routing-key"], text("wechat.deliveries"));
        assert!(!arguments.contains_key("x-delivery-limit"));
    }

    #[test]
    fn the_brokers_406_becomes_advice() {
        let error = mismatch(
            "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'wechat.events' in vhost '/': \
             received the value '50' of type 'signedint' but current is none",
        );
        assert_eq!(
            error.unwrap().to_string(),
            "queue wechat.events exists with x-delivery-limit = none, wanted is 50; stop its publishers, let it run \
             empty, then: rabbitmqctl delete_queue --vhost '/' 'wechat.events'"
        );
        assert!(mismatch("ACCESS_REFUSED - no").is_none());
    }
}

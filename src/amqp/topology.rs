//! What is declared at the broker: names and arguments.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use super::declare::{TopologyError, bind, declare_exchange, declare_queue};
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

    /// The name of no queue: what is published to it goes nowhere.
    pub(super) fn probe(&self) -> String {
        self.name("probe")
    }

    /// Every queue that is declared at the start: all but the lanes. The landing place of dead letters comes first: what
    /// points at it must not stand without it.
    pub fn queues(&self) -> Vec<String> {
        let fixed = [self.dead(), self.events(), self.deliveries()];
        fixed.into_iter().chain(self.delays.iter().map(|delay| self.retry(*delay))).collect()
    }

    /// Whether `queue` is some app's lane.
    pub fn is_lane(&self, queue: &str) -> bool {
        queue.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with(".lane."))
    }

    /// Whether we declare `queue`, now or on first use.
    pub(super) fn is_ours(&self, queue: &str) -> bool {
        self.is_lane(queue) || self.queues().iter().any(|ours| ours == queue)
    }

    /// Declares everything but the lanes. Idempotent; the channel is spent if it fails.
    pub(super) async fn declare(&self, channel: &Channel) -> Result<(), TopologyError> {
        for queue in self.queues() {
            self.declare_queue(channel, &queue).await?;
        }
        Ok(())
    }

    /// Declares the exchanges again, and what ties them to their queues. Changes nothing where they are there.
    pub(super) async fn declare_exchanges(&self, channel: &Channel) -> Result<(), TopologyError> {
        for queue in [self.dead(), self.events()] {
            self.declare_exchange_of(channel, &queue).await?;
        }
        Ok(())
    }

    /// Declares one queue, with the exchange in front of it where it has one.
    pub(super) async fn declare_queue(&self, channel: &Channel, queue: &str) -> Result<(), TopologyError> {
        declare_queue(channel, queue, self.arguments(queue)).await?;
        self.declare_exchange_of(channel, queue).await
    }

    async fn declare_exchange_of(&self, channel: &Channel, queue: &str) -> Result<(), TopologyError> {
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
        // At-least-once works only together with reject-publish; alone it silently is at-most-once (docs/STACK.md#at-least-once-dead-lettering).
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

/// As people write it, in the largest unit that fits: `250ms`, `10s`, `1m`, `2h`.
fn spell(delay: Duration) -> String {
    const UNITS: [(u128, &str); 3] = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let millis = delay.as_millis();
    match UNITS.iter().find(|(unit, _)| millis.is_multiple_of(*unit)) {
        Some((unit, suffix)) => format!("{}{suffix}", millis / unit),
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
                "wechat.dead",
                "wechat.events",
                "wechat.deliveries",
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
}

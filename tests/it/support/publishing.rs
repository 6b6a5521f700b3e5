//! The publishers' side: events on their way to the broker.

use std::collections::BTreeMap;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};

use super::{APP, COMPANY, TEMPLATE, World};

/// An event in the making.
#[derive(Clone)]
pub struct EventBody(pub Value);

/// An event of the usual company, app and template, for whoever the rules name. Its id stands in its data too, so that
/// the simulator can tell messages apart.
pub fn event(event_id: &str) -> EventBody {
    EventBody(json!({
        "event_id": event_id, "company_no": COMPANY, "app_id": APP, "template_id": TEMPLATE,
        "data": { "character_string1": { "value": event_id }, "amount2": "¥100.00" },
        "page": "pages/pay/detail?id=17",
    }))
}

impl EventBody {
    /// Sets one field.
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0[field] = value.into();
        self
    }

    /// For these business users instead of the rules' ones.
    pub fn to(self, sys_user_ids: &[&str]) -> Self {
        self.with("sys_user_ids", json!(sys_user_ids))
    }
}

/// The exchange that events go to.
pub struct Exchange {
    url: String,
    name: String,
}

impl Exchange {
    /// Publishes any bytes with these headers, over a connection of its own. Did the broker confirm all of them?
    pub async fn publish(
        &self,
        bodies: impl IntoIterator<Item = Vec<u8>>,
        headers: &BTreeMap<&str, &str>,
    ) -> lapin::Result<bool> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), AMQPValue::LongString((*value).into()));
        }
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_headers(table);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let mut confirms = Vec::new();
        for body in bodies {
            let (exchange, key) = (self.name.as_str().into(), "payment.paid".into());
            confirms.push(channel.basic_publish(exchange, key, options, &body, properties.clone()).await?);
        }
        let mut all = true;
        for confirm in confirms {
            all &= confirm.await?.is_ack();
        }
        let _ = connection.close(200, "done".into()).await;
        Ok(all)
    }
}

impl World {
    /// Publishes one event and waits for the broker's confirm.
    pub async fn publish(&self, event: EventBody) {
        self.publish_all([event]).await;
    }

    /// Waits until a daemon has declared the queue of events, and publishes one.
    pub async fn publish_when_declared(&self, event: EventBody) {
        super::eventually("the queue of events to be declared", async || self.depth("events").await).await;
        self.publish(event).await;
    }

    /// Publishes events and waits for all confirms.
    pub async fn publish_all(&self, events: impl IntoIterator<Item = EventBody>) {
        let bodies = events.into_iter().map(|event| serde_json::to_vec(&event.0).unwrap());
        self.publish_raw(bodies, &BTreeMap::new()).await;
    }

    /// Publishes any bytes with these headers to the exchange of events.
    pub async fn publish_raw(
        &self,
        bodies: impl IntoIterator<Item = Vec<u8>>,
        headers: &BTreeMap<&str, &str>,
    ) {
        assert!(self.exchange().publish(bodies, headers).await.unwrap(), "the broker refused an event");
    }

    /// The way in for whoever publishes while the broker may be away.
    pub fn exchange(&self) -> Exchange {
        Exchange { url: self.amqp_url.clone(), name: format!("{}.events", self.name) }
    }

    /// Messages in a queue of this world, those in somebody's hands not counted. `None`: no such queue.
    pub async fn depth(&self, queue: &str) -> Option<u32> {
        let (connection, channel) = self.channel().await;
        let name = format!("{}.{queue}", self.name);
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let declared = channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await;
        let _ = connection.close(200, "done".into()).await;
        declared.ok().map(|queue| queue.message_count())
    }

    /// Messages in all queues of this world, those in somebody's hands not counted.
    pub async fn queued(&self) -> u32 {
        let (connection, mut channel) = self.channel().await;
        let mut total = 0;
        for name in queues() {
            let name = format!("{}.{name}", self.name);
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
            match channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await {
                Ok(queue) => total += queue.message_count(),
                // The broker closes the channel on which a missing queue was asked for.
                Err(_no_such_queue) => channel = connection.create_channel().await.unwrap(),
            }
        }
        let _ = connection.close(200, "done".into()).await;
        total
    }

    /// Waits until no queue of this world holds a message that is in nobody's hands.
    pub async fn queues_empty(&self) {
        super::eventually("the queues to be empty", async || (self.queued().await == 0).then_some(())).await;
    }

    pub(super) async fn channel(&self) -> (Connection, Channel) {
        let connection = Connection::connect(&self.amqp_url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        (connection, channel)
    }
}

/// Deletes the queues and exchanges of one prefix.
pub fn sweep(url: &str, prefix: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Ok(connection) = Connection::connect(url, ConnectionProperties::default()).await else {
            return; // A broker of the test's own that has ended takes its queues along.
        };
        let channel = connection.create_channel().await.unwrap();
        for name in queues() {
            let queue = format!("{prefix}.{name}");
            channel.queue_delete(queue.as_str().into(), Default::default()).await.unwrap();
        }
        for name in ["events", "dead"] {
            let exchange = format!("{prefix}.{name}");
            channel.exchange_delete(exchange.as_str().into(), Default::default()).await.unwrap();
        }
        let _ = connection.close(200, "done".into()).await;
    });
}

/// The queues that a world can have, without the prefix.
fn queues() -> impl Iterator<Item = String> {
    let steps = ["100ms", "200ms", "400ms", "800ms", "1600ms", "10s", "1m", "5m", "30m", "2h"];
    let fixed = ["events", "deliveries", "dead"].map(str::to_owned);
    let lanes = [APP, "wx-other", "wx-third"].map(|app| format!("lane.{app}"));
    fixed.into_iter().chain(lanes).chain(steps.map(|step| format!("retry.{step}")))
}

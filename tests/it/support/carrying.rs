//! Deliveries in the middle of their life: rows and delivery messages as an earlier process may have left them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation};
use serde_json::json;
use wechat_notifier::clock;
use wechat_notifier::domain::event::{Arrival, Event};

use super::{APP, COMPANY, Daemon, EventBody, TEMPLATE, World, eventually};

/// A waiting delivery's message in the making.
pub struct DeliveryMessage {
    event: EventBody,
    openid: String,
    epoch: i64,
    replay: bool,
    epoch_header: &'static str,
}

/// The message that carries this event to one user.
pub fn delivery_message(event: EventBody, openid: &str) -> DeliveryMessage {
    DeliveryMessage { event, openid: openid.to_owned(), epoch: 0, replay: false, epoch_header: "x-wn-epoch" }
}

impl DeliveryMessage {
    /// As deferred for the `epoch`th time.
    pub fn epoch(self, epoch: i64) -> Self {
        Self { epoch, ..self }
    }

    /// As release 0.1 published it.
    pub fn by_release_0_1(self) -> Self {
        Self { epoch_header: "x-wn-turn", ..self }
    }

    /// As an operator brings it back.
    pub fn replayed(self) -> Self {
        Self { replay: true, ..self }
    }

    fn body(&self) -> Vec<u8> {
        let tomorrow = clock::now() + SignedDuration::from_hours(24);
        let delivery_message = json!({
            "recipient": { "openid": self.openid, "sys_user_id": null },
            "event_id": self.event.0["event_id"],
            "expires_at": tomorrow.to_string(),
            "event": self.event.0,
        });
        delivery_message.to_string().into_bytes()
    }

    fn headers(&self) -> FieldTable {
        let mut headers = FieldTable::default();
        headers.insert("x-wn-version".into(), AMQPValue::LongLongInt(1));
        headers.insert(self.epoch_header.into(), AMQPValue::LongLongInt(self.epoch));
        headers.insert("x-wn-step".into(), AMQPValue::LongLongInt(0));
        if self.replay {
            headers.insert("x-wn-replay".into(), AMQPValue::Boolean(true));
        }
        headers
    }
}

impl World {
    /// Publishes a delivery message to where deliveries come back from the ladder.
    pub async fn carry(&self, delivery_message: DeliveryMessage) {
        let properties = BasicProperties::default().with_headers(delivery_message.headers());
        let queue = format!("{}.deliveries", self.name);
        self.publish_to("", &queue, &delivery_message.body(), properties).await;
    }

    /// Publishes one message as it is, and waits for its confirm.
    pub async fn publish_to(&self, exchange: &str, key: &str, body: &[u8], properties: BasicProperties) {
        let (connection, channel) = self.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = properties.with_delivery_mode(2);
        let publish = channel.basic_publish(exchange.into(), key.into(), options, body, properties);
        let confirmed = publish.await.unwrap().await.unwrap();
        assert!(matches!(confirmed, Confirmation::Ack(None)), "the broker did not take it: {confirmed:?}");
        let _ = connection.close(200, "done".into()).await;
    }

    /// Writes a delivery's row as it stands after some earlier life. `lease` is when its claim, somebody else's, ends: an
    /// interval from now.
    pub async fn row(&self, event: &EventBody, openid: &str, status: &str, epoch: i32, lease: &str) {
        const ROW: &str = "
            INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, status, epoch, claim,
                                           claimed_at, claimed_until, content_hash)
            VALUES ($1, $2, $3, $4, $5, $5, $6, $7, gen_random_uuid(), now(), now() + $8::text::interval, $9)";
        let event_id = event.0["event_id"].as_str().unwrap();
        let hash = content_hash(event);
        self.db
            .execute(ROW, &[&COMPANY, &APP, &TEMPLATE, &event_id, &openid, &status, &epoch, &lease, &hash])
            .await
            .unwrap();
    }

    /// Runs a statement on the books, as somebody else would.
    pub async fn sql(&self, statement: &str) {
        self.db.execute(statement, &[]).await.unwrap();
    }

    /// Waits until no queue holds a message and none is in hand. Only an end shows the latter: what was in hand and unacked
    /// comes back to its queue.
    pub async fn all_acked(&self, daemon: Daemon) {
        let mut daemon = daemon;
        for _ in 0..MAX_ROUNDS {
            eventually("every queue to be empty", async || (self.messages().await == 0).then_some(())).await;
            daemon.terminate();
            assert_eq!(daemon.exit().await, Some(0), "the daemon did not end well");
            if self.messages().await == 0 {
                return;
            }
            // It was on its way from one queue to the next.
            daemon = self.daemon().await;
        }
        panic!("after {MAX_ROUNDS} looks a message is still under way");
    }

    async fn messages(&self) -> u32 {
        const QUEUES: [&str; 8] = [
            "events",
            "deliveries",
            "dead",
            "retry.100ms",
            "retry.200ms",
            "retry.400ms",
            "retry.800ms",
            "retry.1600ms",
        ];
        let mut messages = 0;
        for queue in QUEUES {
            messages += self.depth(queue).await.unwrap_or(0);
        }
        messages
    }
}

/// A message may be between two queues when we look; that it is there each time is no chance any more.
const MAX_ROUNDS: usize = 5;

impl Daemon {
    /// Waits until the ledger was asked for this many claims.
    pub async fn claims(&self, count: f64) {
        const ASKED: &str = r#"wechat_notifier_batch_size_sum{statement="claim"}"#;
        eventually(&format!("{count} claims"), async || (self.metric(ASKED).await >= count).then_some(()))
            .await;
    }
}

fn content_hash(event: &EventBody) -> Vec<u8> {
    let arrival = Arrival {
        message_id: None,
        timestamp: None,
        first_seen: Timestamp::UNIX_EPOCH,
        default_ttl: Duration::from_secs(60),
    };
    Event::decode(event.0.to_string().as_bytes(), &arrival).unwrap().content_hash.to_vec()
}

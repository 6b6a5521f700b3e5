//! WeChat away under load, in each of its shapes. The tests' ladder is over after three seconds and the policy on unknowns
//! after two timeouts: whoever is charged for an outage that outlasts both by far would be dead.

use serde_json::{Value, json};

use crate::support::{APP, Daemon, World, event, eventually};

/// Users who are written to when it begins, and as many again in the middle of it.
const CROWD: usize = 40;
/// Fewer than it takes to suspect the app.
const FEW: usize = 4;

#[tokio::test]
async fn an_outage_of_server_errors_charges_nobody() {
    let outage = Outage::begin(json!({ "http_status": 500 })).await;
    assert_eq!(outage.passes().await, 0, "a plain no leaves nothing unknown");
}

#[tokio::test]
async fn an_outage_behind_a_gateways_pages_charges_nobody() {
    let page = "<html><body><h1>502 Bad Gateway</h1></body></html>";
    let outage = Outage::begin(json!({ "http_status": 502, "body": page })).await;
    assert!(outage.passes().await > 0, "a gateway may have passed the request on");
}

#[tokio::test]
async fn an_outage_of_silence_charges_nobody() {
    let outage = Outage::begin(json!("hang")).await;
    assert!(outage.passes().await > 0, "a request without an answer may have been heard");
}

#[tokio::test]
async fn an_outage_of_refused_connections_charges_nobody() {
    let mut world = World::new().await;
    world.crowd(2 * i32::try_from(CROWD).unwrap() + 1).await;
    let daemon = world.daemon().await;
    world.publish(event("before").to(&[&format!("user-{}", 2 * CROWD + 1)])).await;
    world.ended("before").await;

    world.wechat.kill();
    let mut outage = Outage { world, daemon };
    outage.is_noticed().await;
    outage.world.wechat.come_back().await;
    outage.world.wechat.register(APP, "secret").await;
    assert_eq!(outage.is_over(2 * CROWD + 1).await, 0, "no request ever left");
}

/// The same, a while later.
fn later(shape: Value) -> Value {
    match shape {
        Value::Object(mut shape) => {
            shape.insert("delay_ms".to_owned(), json!(500));
            shape.into()
        }
        word => word,
    }
}

struct Outage {
    world: World,
    daemon: Daemon,
}

impl Outage {
    async fn begin(shape: Value) -> Self {
        let world = World::new().await;
        world.crowd(2 * i32::try_from(CROWD).unwrap()).await;
        let daemon = world.daemon().await;
        // The first few meet it well before the others: too few to tell that it is an outage.
        let everything = json!({ "path": "send" });
        world.wechat.fault(json!({ "match": everything, "times": FEW, "action": shape })).await;
        world.wechat.fault(json!({ "match": everything, "action": later(shape) })).await;
        Self { world, daemon }
    }

    /// Lasts until long after the app was paused, and ends. Answers how many outcomes it left unknown.
    async fn passes(mut self) -> i64 {
        self.is_noticed().await;
        self.world.wechat.heal().await;
        self.is_over(2 * CROWD).await
    }

    async fn is_noticed(&mut self) {
        self.publish(1..=CROWD).await;
        let away = format!("wechat_notifier_app_paused{{app_id=\"{APP}\",reason=\"away\"}}");
        eventually("the app to be paused", async || (self.daemon.metric(&away).await == 1.0).then_some(()))
            .await;
        self.publish(CROWD + 1..=2 * CROWD).await;
        eventually("nearly all to wait in the lane", async || {
            let waiting = self.world.depth(&format!("lane.{APP}")).await?;
            (usize::try_from(waiting).unwrap() >= 2 * CROWD - 2).then_some(())
        })
        .await;
    }

    async fn publish(&self, users: impl IntoIterator<Item = usize>) {
        let events = users.into_iter().map(|n| event(&format!("e-{n}")).to(&[&format!("user-{n}")]));
        self.world.publish_all(events).await;
    }

    async fn is_over(&self, rows: usize) -> i64 {
        self.world.all_ended(i64::try_from(rows).unwrap()).await;
        let ledger = self.world.ledger().await;
        let charged: Vec<_> =
            ledger.iter().filter(|row| (row.end().as_str(), row.attempts) != ("sent", 1)).collect();
        assert!(charged.is_empty(), "charged for the outage: {charged:#?}");
        assert_eq!(self.world.dead_letters().await, [""; 0]);
        assert_eq!(self.world.depth("dead").await, Some(0));
        self.world.conserved([]).await
    }
}

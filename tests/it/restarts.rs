//! Broker and database come and go: before the daemon, and under load.

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::json;

use crate::support::{APP, Daemon, Servers, World, event};

const USERS: i32 = 2_000;

/// A daemon at work on [`USERS`] events, on servers of its own.
struct Load {
    // In this order they end: the daemon first, the servers last.
    daemon: Daemon,
    world: World,
    servers: Servers,
}

impl Load {
    /// Some events are done, most are not, and many requests are on their way.
    async fn running(name: &str) -> Self {
        let servers = Servers::start(name);
        let world = World::on(&servers.amqp_url, &servers.database_url).await;
        world.crowd(USERS).await;
        world.wechat.tell("latency", json!({"ms": 50, "appid": APP})).await;
        // Holders are back at the database within 5 s of its return; until then nobody takes over what they could not settle.
        let settings = [("DELIVERY__CONCURRENCY", "32"), ("DELIVERY__TAKEOVER_GRACE", "10s")];
        let daemon = world.daemon_with(&settings).await;
        world.publish_all((1..=USERS).map(|n| event(&format!("pay-{n}")).to(&[&format!("user-{n}")]))).await;
        world.wechat.requests_reach(100).await;
        Self { daemon, world, servers }
    }

    /// Does this to a server; the load must not be over by then.
    async fn meets(&self, verb: &str) {
        let sent = self.world.wechat.got_by_all().await;
        assert!(sent < i64::from(USERS), "the load is over before {verb}");
        self.servers.tell(verb).await;
    }

    /// Nothing lost, everybody served; the messages that somebody got twice.
    async fn ends(mut self) -> (i64, i64) {
        self.world.reconnect().await;
        self.world.all_ended(USERS.into()).await;
        self.world.finish(self.daemon).await;
        let unknowns = self.world.conserved((1..=USERS).map(|n| format!("pay-{n}"))).await;
        let doubles = self.world.wechat.doubles().await;
        assert_eq!(self.world.wechat.got_by_all().await, i64::from(USERS) + doubles, "somebody got nothing");
        println!("{unknowns} outcomes unknown, {doubles} doubles");
        (unknowns, doubles)
    }
}

#[tokio::test]
async fn the_broker_restarts_under_load() {
    let load = Load::running("broker-restart").await;
    load.meets("broker-restart").await;
    load.daemon.says(&["lost the connection to the broker"]).await;
    assert_eq!(load.ends().await, (0, 0), "the process lived: it knows every outcome");
}

#[tokio::test]
async fn the_broker_is_killed_under_load() {
    let load = Load::running("broker-kill").await;
    // RabbitMQ 3.10.8 can lose the leader of a queue that was declared within seconds of a kill, for good. An orderly stop writes
    // all of them down; what is told here is a broker that has been at work for a while.
    load.meets("broker-restart").await;
    load.world.wechat.requests_reach(700).await;
    load.meets("broker-kill").await;
    load.servers.tell("broker-start").await;
    load.daemon.says(&["lost the connection to the broker"]).await;
    assert_eq!(load.ends().await, (0, 0), "the process lived: it knows every outcome");
}

#[tokio::test]
async fn postgresql_restarts_under_load() {
    let load = Load::running("postgres-restart").await;
    load.meets("postgres-restart").await;
    assert_eq!(load.ends().await, (0, 0), "the process lived: it knows every outcome");
}

/// Beside a kill of the daemon, and many times: `database_crashes`.
#[tokio::test]
async fn postgresql_crashes_under_load() {
    let load = Load::running("postgres-crash").await;
    for _ in 0..3 {
        load.meets("postgres-stop-immediate").await;
        load.servers.tell("postgres-start").await;
    }
    assert_eq!(load.ends().await, (0, 0), "the process lived: it knows every outcome");
}

#[tokio::test]
async fn without_its_servers_the_daemon_waits_and_begins_when_they_come() {
    let servers = Servers::start("late-servers");
    let mut world = World::on(&servers.amqp_url, &servers.database_url).await;
    world.user("zhangsan", "o-zhang").await;
    servers.tell("broker-stop").await;
    servers.tell("postgres-stop").await;

    let daemon = world.spawn(&[]);
    daemon.not_ready("").await;
    servers.tell("postgres-start").await;
    daemon.not_ready("broker").await;
    servers.tell("broker-start").await;
    daemon.until_ready().await;

    world.reconnect().await;
    world.publish(event("pay-1").to(&["zhangsan"])).await;
    assert_eq!(world.ended("pay-1").await.end(), "sent");
    world.conserved(["pay-1".to_owned()]).await;
}

#[tokio::test]
async fn without_postgresql_alone_the_daemon_waits_too() {
    let servers = Servers::start("late-postgres");
    let mut world = World::on(&servers.amqp_url, &servers.database_url).await;
    servers.tell("postgres-stop").await;
    // Tables are there: a daemon that does not migrate goes on to the broker and waits as a whole.
    let daemon = world.spawn(&[("DATABASE__MIGRATE_ON_START", "false")]);
    daemon.not_ready("database").await;
    world.publish_when_declared(event("pay-1").to(&["zhangsan"])).await;

    servers.tell("postgres-start").await;
    daemon.until_ready().await;
    world.reconnect().await;
    assert_eq!(world.ended("pay-1").await.end(), "skipped:not_bound");
    world.conserved(["pay-1".to_owned()]).await;
}

#[tokio::test]
async fn a_queue_of_another_kind_is_reported_and_left_alone() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let queue = format!("{}.events", world.name);
    let connection = Connection::connect(&world.amqp_url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let durable = QueueDeclareOptions::durable();
    channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await.unwrap();
    let properties = BasicProperties::default().with_delivery_mode(2);
    let precious =
        channel.basic_publish("".into(), queue.as_str().into(), Default::default(), b"precious", properties);
    precious.await.unwrap();

    let daemon = world.spawn(&[]);
    let line = daemon.says(&["the broker cannot be used as configured", &queue]).await;
    assert!(
        line.contains("x-dead-letter-exchange = none") && line.contains("rabbitmqctl delete_queue"),
        "{line}"
    );
    daemon.not_ready(&queue).await;
    assert_eq!(world.depth("events").await, Some(1), "what was in the queue is gone");

    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    daemon.until_ready().await;
    world.publish(event("pay-1").to(&["zhangsan"])).await;
    assert_eq!(world.ended("pay-1").await.end(), "sent");
}

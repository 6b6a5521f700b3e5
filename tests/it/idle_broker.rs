//! What befalls the broker while the daemon has nothing to publish to it is noticed all the same.

use std::process::Output;
use std::time::{Duration, Instant};

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{Connection, ConnectionProperties};

use crate::support::{Servers, World, event, eventually};

/// What the manual promises.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test]
async fn an_alarm_shows_though_nothing_is_published() {
    let servers = Servers::start("idle");
    let world = World::on(&servers.amqp_url, &servers.database_url).await;
    world.user("zhangsan", "o-zhang").await;
    let daemon = world.daemon().await;
    world.publish(event("astray").with("app_id", "wxnobody").to(&["zhangsan"])).await;
    world.dead_letters_when(1).await;
    world.app("wxnobody", "secret").await;
    assert_eq!(daemon.metric("wechat_notifier_broker_up").await, 1.0);

    servers.tell("rabbitmqctl set_vm_memory_high_watermark 0.00001").await;
    let began = Instant::now();
    daemon.not_ready("blocked by the broker").await;
    assert!(began.elapsed() < NOTICED_WITHIN, "it took {:?}", began.elapsed());
    assert_eq!(daemon.metric("wechat_notifier_broker_blocked").await, 1.0);

    // Whoever asks, or wants to publish, is told at once.
    std::fs::write(file(&world), event("late").to(&["zhangsan"]).0.to_string()).unwrap();
    says_alarm(&world, &["check"], 3).await;
    says_alarm(&world, &["publish", &file(&world)], 1).await;
    says_alarm(&world, &["dlq", "replay", "--reason", "unknown_app", "--yes"], 1).await;
    std::fs::remove_file(file(&world)).unwrap();

    servers.tell("rabbitmqctl set_vm_memory_high_watermark absolute 1GB").await;
    daemon.until_ready().await;
    assert_eq!(daemon.metric("wechat_notifier_broker_blocked").await, 0.0);
    world.cli(&["check"]).await;
}

#[tokio::test]
async fn what_somebody_deletes_at_the_broker_is_declared_again() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let daemon = world.daemon().await;
    let connection = Connection::connect(&world.amqp_url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();

    let exchanges = ["events", "dead"].map(|exchange| format!("{}.{exchange}", world.name));
    for exchange in &exchanges {
        let options = ExchangeDeleteOptions::default();
        channel.exchange_delete(exchange.as_str().into(), options).await.unwrap();
    }
    // Nobody consumes it, and nothing is on its way to it.
    let retry = format!("{}.retry.800ms", world.name);
    channel.queue_delete(retry.as_str().into(), QueueDeleteOptions::default()).await.unwrap();

    eventually("the exchange of events to take an event again", async || {
        let body = event("after").to(&["zhangsan"]).0.to_string().into_bytes();
        world.exchange().publish([body], &Default::default()).await.ok().filter(|all| *all)
    })
    .await;
    assert_eq!(world.ended("after").await.end(), "sent");
    eventually("the retry queue to be there again", async || world.depth("retry.800ms").await).await;
    world.publish_raw([b"no event".to_vec()], &Default::default()).await;
    assert_eq!(world.dead_letters_when(1).await, ["malformed"]);
    assert!(!daemon.log().contains("lost the connection"), "it was noticed by a fault only");
}

fn file(world: &World) -> String {
    std::env::temp_dir().join(format!("{}-late.json", world.name)).to_str().unwrap().to_owned()
}

/// The command ends with this code, soon, and names the alarm.
async fn says_alarm(world: &World, arguments: &[&str], code: i32) {
    let began = Instant::now();
    let Output { status, stdout, stderr } = world.command(arguments).await;
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(said.contains("memory or disk alarm"), "{arguments:?}: {said}");
    assert_eq!(status.code(), Some(code), "{said}");
    assert!(began.elapsed() < NOTICED_WITHIN, "{arguments:?} took {:?}", began.elapsed());
}

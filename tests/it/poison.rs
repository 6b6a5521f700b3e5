//! A message that cannot even be parsed: it kills the connection that it comes on, and must take nothing along.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueuePurgeOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{World, event, eventually};

/// What our own publisher can say, and what a publisher that speaks Latin-1 makes of it: as long, and not UTF-8.
const PLAIN: &[u8] = b"caf~";
const LATIN_1: &[u8] = b"caf\xe9";

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_parsed_dies_alone() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let daemon = world.daemon().await;
    let good = |numbers: std::ops::Range<u32>| numbers.map(|n| event(&format!("pay-{n}")).to(&["zhangsan"]));

    world.publish_all(good(0..30)).await;
    world.publish_unparsable().await;
    world.publish_all(good(30..60)).await;
    world.ends_when("sent", 60).await;
    eventually("the bad message to be a letter", async || {
        (world.depth("dead").await == Some(1)).then_some(())
    })
    .await;
    assert_eq!(world.wechat.got("o-zhang").await, 60, "somebody got a message twice");

    // It stops archiving, and nothing else, until an operator takes it off the queue.
    daemon.says(&["ERROR", "a dead letter cannot be parsed"]).await;
    world.publish(event("later").to(&["zhangsan"])).await;
    assert_eq!(world.ended("later").await.end(), "sent");
    daemon.until_ready().await;
    eventually("the letter to be purged", async || (world.purge("dead").await == 1).then_some(())).await;
    world.publish_raw([b"no event".to_vec()], &Default::default()).await;
    assert_eq!(world.letters_when(1).await, ["malformed"], "an innocent became a letter");

    // Dozens of connections later, the log says it once.
    assert_eq!(daemon.log().matches("a message that cannot be parsed is in a queue").count(), 1);
    assert!(daemon.log().matches("not ready any more").count() <= 2, "readiness flickered");
    world.conserved((0..60).map(|n| format!("pay-{n}"))).await;
}

impl World {
    /// Publishes an event whose `message_id` is not UTF-8.
    async fn publish_unparsable(&self) {
        let connection =
            Connection::connect(&latin_1_way(&self.amqp_url).await, ConnectionProperties::default())
                .await
                .unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let message_id = std::str::from_utf8(PLAIN).unwrap();
        let properties = BasicProperties::default().with_delivery_mode(2).with_message_id(message_id.into());
        let (exchange, options) = (format!("{}.events", self.name), BasicPublishOptions::default());
        let published = channel.basic_publish(
            exchange.as_str().into(),
            "payment.paid".into(),
            options,
            b"{}",
            properties,
        );
        assert!(published.await.unwrap().await.unwrap().is_ack(), "the broker refused the message");
        let _ = connection.close(200, "done".into()).await;
    }

    /// Drops the messages of a queue that are in nobody's hands, and counts them.
    async fn purge(&self, queue: &str) -> u32 {
        let connection = Connection::connect(&self.amqp_url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let queue = format!("{}.{queue}", self.name);
        let purged = channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await.unwrap();
        let _ = connection.close(200, "done".into()).await;
        purged
    }
}

/// The URL of a way to this broker on which what we publish turns into Latin-1. For one connection.
async fn latin_1_way(url: &str) -> String {
    let upstream: lapin::uri::AMQPUri = url.parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut through = upstream.clone();
    through.authority.host = "127.0.0.1".to_owned();
    through.authority.port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect((upstream.authority.host, upstream.authority.port)).await.unwrap();
        let ((mut said, mut heard), (mut answers, mut told)) = (client.into_split(), server.into_split());
        tokio::spawn(async move { copy(&mut answers, &mut heard).await });
        // One publish is far smaller than this, and lapin writes it at once.
        let mut words = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = said.read(&mut words).await {
            told.write_all(&in_latin_1(&words[..length])).await.unwrap();
        }
    });
    through.to_string()
}

fn in_latin_1(words: &[u8]) -> Vec<u8> {
    let mut words = words.to_vec();
    if let Some(at) = words.windows(PLAIN.len()).position(|window| window == PLAIN) {
        words[at..at + PLAIN.len()].copy_from_slice(LATIN_1);
    }
    words
}

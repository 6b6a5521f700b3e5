//! Publishers that do not speak UTF-8: AMQP asks for it in properties and names, RabbitMQ does not check. Each of their
//! messages is a dead letter of its own, and costs the others nothing.

use std::time::Instant;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Servers, World, event, eventually};

/// What our own publisher can say, and what one that speaks Latin-1 makes of it: as long, and not UTF-8.
const PLAIN: &[u8] = b"caf~";
const LATIN_1: &[u8] = b"caf\xe9";
/// As the daemon shows it.
const SHOWN: &str = "caf\u{fffd}";

/// What of a message is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Foreign {
    MessageId,
    Kind,
    HeaderName,
    RoutingKey,
}

use Foreign::{HeaderName, Kind, MessageId, RoutingKey};

impl Foreign {
    const ALL: [Self; 4] = [MessageId, Kind, HeaderName, RoutingKey];

    fn field(self) -> &'static str {
        match self {
            MessageId => "message_id",
            Kind => "type",
            HeaderName => "headers",
            RoutingKey => "routing_key",
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_that_are_not_utf8_harm_only_their_message() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let daemon = world.daemon().await;

    world.mixed(300, 10).await;
    world.ends_when("sent", 300).await;
    assert_eq!(world.dead_letters_when(40).await, ["malformed"; 40]);
    for foreign in Foreign::ALL {
        assert_eq!(world.dead_letters_about(foreign).await.len(), 10, "{foreign:?}");
    }
    assert!(!daemon.log().contains("lost the connection"), "a message ended a connection");
    assert_eq!(world.wechat.got("o-zhang").await, 300);

    // Their bodies are whole: once the publisher is told, they go out as they are.
    world.cli(&["dlq", "replay", "--reason", "malformed", "--why", "told", "--yes"]).await;
    world.ends_when("sent", 330).await;
    // All but those whose only id was in the property.
    let dead_letters = world.dead_letters_about(MessageId).await;
    let first = world.shown(dead_letters[0]).await;
    assert_eq!((first["state"].as_str(), first["event_id"].as_str()), (Some("open"), None), "{first}");
    assert!(first["errmsg"].as_str().unwrap().contains("not UTF-8"), "{first}");
    let exported = world.cli(&["dlq", "export", "--id", &dead_letters[0].to_string()]).await;
    assert!(exported.contains("character_string1"), "{exported}");
    let corrected = std::env::temp_dir().join(format!("{}-corrected.json", world.name));
    std::fs::write(&corrected, event("corrected").to(&["zhangsan"]).0.to_string()).unwrap();
    let (id, body) = (dead_letters[0].to_string(), corrected.to_str().unwrap());
    world.cli(&["dlq", "replay", "--id", &id, "--body", body]).await;
    std::fs::remove_file(&corrected).unwrap();
    assert_eq!(world.ended("corrected").await.end(), "sent");
    world.conserved((0..300).map(|n| format!("pay-{n}"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_the_dead_queue_is_archived_whatever_its_encoding() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let dead = Publisher::in_latin_1(&world, "dead").await;
    for (n, foreign) in Foreign::ALL.into_iter().enumerate() {
        dead.publish(n.to_string().as_bytes(), Some(foreign)).await;
    }
    assert_eq!(world.dead_letters_when(4).await, ["malformed"; 4]);
    let ids = world.db.query("SELECT headers FROM t_wechat_dead_letter", &[]).await.unwrap();
    let named = |row: &tokio_postgres::Row| row.get::<_, Value>(0).get(SHOWN).is_some();
    assert_eq!(ids.iter().filter(|row| named(row)).count(), 1, "the header is not kept by its name");
    assert!(!daemon.log().contains("lost the connection"), "a dead letter ended a connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_over_tls() {
    let servers = Servers::start_tls("poison");
    let url = format!("{}?sslmode=disable", servers.database_url);
    let world = World::on(&servers.amqp_url, &url).await;
    world.user("zhangsan", "o-zhang").await;
    let secure = [
        ("AMQP__URL", &*servers.told("WN_TEST_AMQPS_URL")),
        ("AMQP__CA_FILE", &servers.told("WN_TEST_CA_FILE")),
    ];
    let daemon = world.daemon_with(&secure).await;
    world.mixed(50, 5).await;
    world.ends_when("sent", 50).await;
    assert_eq!(world.dead_letters_when(20).await, ["malformed"; 20]);
    assert!(!daemon.log().contains("lost the connection"), "a message ended a connection");
    world.conserved((0..50).map(|n| format!("pay-{n}"))).await;
}

/// Our own faults are no dead letter's fault, and none stops the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_over_one_dead_letter_leaves_it_raw_and_the_archiver_at_work() {
    for (point, reason) in [("dead_letter_read", "unreadable"), ("dead_letters_archived", "malformed")] {
        let world = World::new().await;
        let daemon = world.daemon_with(&[("FAILPOINT", point)]).await;
        world.publish_raw([b"first".to_vec()], &Default::default()).await;
        assert_eq!(world.dead_letters_when(1).await, [reason], "{point}");
        world.publish_raw([b"second".to_vec()], &Default::default()).await;
        world.dead_letters_when(2).await;
        let bodies = world.db.query("SELECT body FROM t_wechat_dead_letter ORDER BY id", &[]).await.unwrap();
        assert_eq!(bodies[0].get::<_, &[u8]>(0), b"first");
        world.queues_empty().await;
        daemon.until_ready().await;
    }
}

/// A header of thousands of levels would overflow the stack of whoever walks through it by recursion, and end the process.
#[tokio::test(flavor = "multi_thread")]
async fn headers_nested_without_end_are_borne() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let daemon = world.daemon().await;
    let publisher = Publisher::with_bottomless_headers(&world).await;
    publisher.publish(event("deep").to(&["zhangsan"]).0.to_string().as_bytes(), None).await;
    assert_eq!(world.ended("deep").await.end(), "sent");
    assert!(!daemon.log().contains("lost the connection"), "a message ended a connection");
    world.conserved(["deep".to_owned()]).await;
}

/// The figures of the promise, by hand: `NEXTEST_SUCCESS_OUTPUT=final tests/run ten_thousand --ignored`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures: needs the machine to itself"]
async fn ten_thousand_good_ones_keep_their_rate_beside_a_thousand_bad() {
    let mut rates = Vec::new();
    for bad_of_each_kind in [0, 250, 0, 250] {
        let world = World::new().await;
        world.crowd(1_000).await;
        drop(world.daemon().await);
        world.mixed(10_000, bad_of_each_kind).await;
        let began = Instant::now();
        let daemon = world.daemon().await;
        world.ends_when("sent", 10_000).await;
        rates.push(10_000.0 / began.elapsed().as_secs_f64());
        assert_eq!(world.dead_letters_when(4 * bad_of_each_kind).await.len(), 4 * bad_of_each_kind);
        assert!(!daemon.log().contains("lost the connection"));
        println!("{} bad: {:.0} good ones a second", 4 * bad_of_each_kind, rates.last().unwrap());
    }
    // Alternately, so that other load on the machine affects both.
    let (without, with) = ((rates[0] + rates[2]) / 2.0, (rates[1] + rates[3]) / 2.0);
    assert!(with >= 0.8 * without, "{with:.0} against {without:.0} a second");
}

impl World {
    /// Publishes good events `pay-0`…, and evenly among them so many bad ones of each kind.
    async fn mixed(&self, good: usize, bad_of_each_kind: usize) {
        let publisher = Publisher::in_latin_1(self, "events").await;
        let bad = 4 * bad_of_each_kind;
        let to = if good > 1_000 { 1_000 } else { 0 };
        for n in 0..good {
            let user = if to > 0 { format!("user-{}", 1 + n % to) } else { "zhangsan".to_owned() };
            let body = event(&format!("pay-{n}")).to(&[&user]).0.to_string();
            publisher.publish(body.as_bytes(), None).await;
            for m in n * bad / good..(n + 1) * bad / good {
                let foreign = Foreign::ALL[m % 4];
                let mut bad = event(&format!("bad-{m}")).to(&[&user]).0;
                if foreign == MessageId {
                    bad.as_object_mut().unwrap().remove("event_id");
                }
                publisher.publish(bad.to_string().as_bytes(), Some(foreign)).await;
            }
        }
        publisher.close().await;
    }

    async fn dead_letters_about(&self, foreign: Foreign) -> Vec<i64> {
        let sql = "SELECT id FROM t_wechat_dead_letter WHERE field = $1 ORDER BY id";
        let rows = self.db.query(sql, &[&foreign.field()]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn shown(&self, dead_letter: i64) -> Value {
        serde_json::from_str(&self.cli(&["dlq", "show", &dead_letter.to_string(), "--json"]).await).unwrap()
    }
}

/// A publisher whose texts arrive as something else.
struct Publisher {
    connection: Connection,
    channel: lapin::Channel,
    exchange: String,
}

impl Publisher {
    async fn in_latin_1(world: &World, exchange: &str) -> Self {
        Self::through(world, exchange, in_latin_1).await
    }

    async fn with_bottomless_headers(world: &World) -> Self {
        Self::through(world, "events", bottomless).await
    }

    async fn through(world: &World, exchange: &str, turned: fn(&mut Vec<u8>) -> Vec<u8>) -> Self {
        eventually("the exchange to be declared", async || world.depth(exchange).await).await;
        let way = way_that_epochs(&world.amqp_url, turned).await;
        let connection = Connection::connect(&way, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { connection, channel, exchange: format!("{}.{exchange}", world.name) }
    }

    /// The confirms are asked for in `close`.
    async fn publish(&self, body: &[u8], foreign: Option<Foreign>) {
        let word = |of: Foreign, usual: &'static str| {
            if foreign == Some(of) { std::str::from_utf8(PLAIN).unwrap() } else { usual }
        };
        let mut headers = FieldTable::default();
        headers.insert(word(HeaderName, "tenant").into(), AMQPValue::LongString("C001".into()));
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_message_id(word(MessageId, "m-1").into())
            .with_type(word(Kind, "paid").into())
            .with_headers(headers);
        let key = word(RoutingKey, "payment.paid").into();
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let published =
            self.channel.basic_publish(self.exchange.as_str().into(), key, options, body, properties);
        published.await.unwrap();
    }

    /// Every message is stored.
    async fn close(self) {
        let returned = self.channel.wait_for_confirms().await.unwrap();
        assert!(returned.is_empty(), "{} messages came back", returned.len());
        let _ = self.connection.close(200, "done".into()).await;
    }
}

/// The URL of a way to this broker on which what we say is turned. For one connection.
async fn way_that_epochs(url: &str, turned: fn(&mut Vec<u8>) -> Vec<u8>) -> String {
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
        let mut waiting = Vec::new();
        while let Ok(1..) = said.read_buf(&mut waiting).await {
            told.write_all(&turned(&mut waiting)).await.unwrap();
        }
    });
    through.to_string()
}

/// Epochs every word; the beginning of one that is not all here waits for the rest.
fn in_latin_1(words: &mut Vec<u8>) -> Vec<u8> {
    let begun = (1..PLAIN.len()).rev().find(|length| words.ends_with(&PLAIN[..*length])).unwrap_or(0);
    let rest = words.split_off(words.len() - begun);
    let mut said = std::mem::replace(words, rest);
    while let Some(at) = said.windows(PLAIN.len()).position(|window| window == PLAIN) {
        said[at..at + PLAIN.len()].copy_from_slice(LATIN_1);
    }
    said
}

/// Puts a header of 20,000 levels in the place of the others. A frame at a time, as it changes the frame's length.
fn bottomless(words: &mut Vec<u8>) -> Vec<u8> {
    let mut said = Vec::new();
    if words.starts_with(b"AMQP") {
        said.extend(words.drain(..8.min(words.len())));
    }
    while let Some(size) = words.get(3..7).map(|size| u32::from_be_bytes(size.try_into().unwrap())) {
        let end = 7 + usize::try_from(size).unwrap() + 1;
        if words.len() < end {
            break;
        }
        let frame: Vec<u8> = words.drain(..end).collect();
        said.extend(if frame[0] == 2 { with_depth(&frame) } else { frame });
    }
    said
}

/// The same header frame with nothing but such a header in it.
fn with_depth(frame: &[u8]) -> Vec<u8> {
    let long = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let deep = (0..20_000).fold(b"V".to_vec(), |inner, _| [b"A", &*long(&inner)].concat());
    let headers = long(&[b"\x04deep", &*deep].concat());
    const HEADERS_ONLY: [u8; 2] = [0b0010_0000, 0];
    let payload = [&frame[7..19], &HEADERS_ONLY, &headers].concat();
    [&frame[..3], &long(&payload), &[0xce]].concat()
}

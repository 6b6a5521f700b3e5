//! The adapter for RabbitMQ against a real one: what is declared, what comes back, what a lost connection does.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio_util::sync::CancellationToken;
use wechat_notifier::amqp::{Broker, Incoming, Message, PublishError, Route, Subscription, Topology, own};
use wechat_notifier::config;
use wechat_notifier::domain::ids::AppId;
use wechat_notifier::domain::ladder::Ladder;
use wechat_notifier::lifecycle::Tasks;

use crate::support::Proxy;

/// Anything here takes milliseconds; a loaded machine may take seconds.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_already_is_declared_again_without_a_word() {
    let world = World::start().await;
    let second = world.connect(&world.url);
    second.ready(PATIENCE).await.unwrap();
    assert_eq!(second.depths(&world.topology.queues()).await.unwrap().len(), world.topology.queues().len());
    second.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_another_shape_is_explained_and_waited_for() {
    let place = Place::new();
    let events = place.topology.events();
    place.foreign_queue(&events).await;
    let broker = place.connect(&place.url);
    let mut health = broker.health();
    let explained = health.wait_for(|health| health.events.problem.is_some());
    let problem =
        tokio::time::timeout(PATIENCE, explained).await.unwrap().unwrap().events.problem.clone().unwrap();
    assert!(problem.contains(&format!("queue {events} exists with x-")), "{problem}");
    assert!(problem.contains("rabbitmqctl delete_queue"), "{problem}");

    // An operator follows the advice; nobody restarts the daemon.
    place.delete_queue(&events).await;
    broker.ready(PATIENCE).await.unwrap();
    broker.close().await;
    place.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_message_comes_back_with_its_headers_and_without_the_brokers() {
    let world = World::start().await;
    let mut deliveries = world.consume(&world.topology.deliveries(), 10);
    let mut message = numbered(1);
    message.headers.set(own::EPOCH, 2);
    message.headers.set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let retry = Route::queue(world.topology.retry(STEP));

    let began = Instant::now();
    world.publish(&retry, message.clone()).await.unwrap();
    let once = next(&mut deliveries).await;
    assert!(began.elapsed() >= STEP, "it did not wait");
    assert!(once.message.headers.get("x-death").is_some(), "the broker left no trace");

    world.publish(&retry, once.message).await.unwrap();
    once.ack_handle.ack();
    let twice = next(&mut deliveries).await;
    let deaths = format!("{:?}", twice.message.headers.get("x-death"));
    assert_eq!(deaths.matches("\"queue\"").count(), 1, "an old x-death went out again: {deaths}");
    assert_eq!(twice.message.headers.number(own::EPOCH), Some(2));
    assert_eq!(twice.message.headers.text("traceparent"), message.headers.text("traceparent"));
    assert_eq!(twice.message.body, message.body);
    twice.ack_handle.ack();
    drop(deliveries);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_nobody_takes_does_not_spoil_its_neighbours() {
    let world = World::start().await;
    let nowhere = Route::queue(format!("{}.nowhere", world.prefix));
    let deliveries = Route::queue(world.topology.deliveries());
    for _ in 0..5 {
        let publishes = (0..100).map(|n| {
            let route = if n % 10 == 7 { &nowhere } else { &deliveries };
            world.publish(route, numbered(n))
        });
        for (n, answer) in join_all(publishes).await.into_iter().enumerate() {
            let expected = if n % 10 == 7 { Err(PublishError::Unroutable) } else { Ok(()) };
            assert_eq!(answer, expected, "message {n}");
        }
    }
    world.depth_becomes(&world.topology.deliveries(), 5 * 90).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_goes_through_the_exchange_whatever_its_key() {
    let world = World::start().await;
    let mut events = world.consume(&world.topology.events(), 10);
    let route = Route::exchange(world.topology.events(), "payment.paid");
    world.publish(&route, numbered(1)).await.unwrap();
    let incoming = next(&mut events).await;
    assert_eq!((incoming.routing_key.as_str(), incoming.redelivered), ("payment.paid", false));
    incoming.ack_handle.ack();
    drop(events);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_comes_to_be_with_its_first_message() {
    let world = World::start().await;
    let lane = world.topology.lane(&AppId::parse("wx0123456789abcdef").unwrap());
    world.publish(&Route::queue(&lane), numbered(1)).await.unwrap();
    let incoming = next(&mut world.consume(&lane, 1)).await;
    assert_eq!(number(&incoming), 1);
    incoming.ack_handle.ack();
    world.delete_queue(&lane).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_outlives_its_connection_and_old_ack_handles_ack_nothing_new() {
    let (world, proxy) = World::behind_proxy().await;
    let mut deliveries = world.consume(&world.topology.deliveries(), 10);
    world.fill(&world.topology.deliveries(), 3).await;
    let old = take(&mut deliveries, 3).await;

    proxy.cut();
    let new = take(&mut deliveries, 3).await;
    assert!(new.iter().all(|incoming| incoming.redelivered));
    assert_eq!(numbers(&old), numbers(&new));

    // Both channels count their tags from 1: acks of the old ones on the new channel would hit the new messages.
    old.into_iter().for_each(|incoming| incoming.ack_handle.ack());
    assert_eq!(world.broker.stale_acks(), 3);
    new.into_iter().for_each(|incoming| incoming.ack_handle.give_back());
    let again = take(&mut deliveries, 3).await;
    assert!(again.iter().all(|incoming| incoming.redelivered));
    again.into_iter().for_each(|incoming| incoming.ack_handle.ack());
    world.runs_empty(deliveries).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_a_connection_that_fell_silent_takes_up_its_work_on_the_next() {
    let (world, proxy) = World::behind_proxy().await;
    let mut deliveries = world.consume(&world.topology.deliveries(), 10);
    attached(&deliveries).await;

    proxy.silence();
    // Whoever asks for something finds the silence, long before a missing heartbeat would tell.
    let lane = world.topology.lane(&AppId::parse("wx0123456789abcdef").unwrap());
    let asks = world.consume(&lane, 1);
    let elsewhere = world.connect(&world.url);
    elsewhere.ready(PATIENCE).await.unwrap();
    let queue = Route::queue(world.topology.deliveries());
    let publisher = elsewhere.publisher();
    // More than the broker hands to the consumer that it still believes in.
    let publishes = (0..30).map(|n| publisher.publish(queue.clone(), numbered(n)));
    assert!(join_all(publishes).await.iter().all(Result::is_ok));
    elsewhere.close().await;
    take(&mut deliveries, 3).await;
    drop((asks, deliveries));
    world.delete_queue(&lane).await;
    world.end().await;
}

/// As a lane's consumer is when the app is paused and resumed in a row.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_given_up_before_it_stands_keeps_no_message() {
    let (world, proxy) = World::behind_proxy().await;
    let deliveries = world.topology.deliveries();
    world.fill(&deliveries, 5).await;
    proxy.delay(Duration::from_millis(30));
    // Some are given up before the broker has answered, some just after.
    for wait in (0..400).step_by(10) {
        let short_lived = world.consume(&deliveries, 10);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        short_lived.cancel().await;
    }
    proxy.heal();
    world.depth_becomes(&deliveries, 5).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_goes_on_until_the_broker_is_back() {
    let (world, proxy) = World::behind_proxy().await;
    proxy.close();
    let mut health = world.broker.health();
    health.wait_for(|health| !health.publishing.up).await.unwrap();
    let route = Route::queue(world.topology.deliveries());
    assert_eq!(world.publish(&route, numbered(1)).await, Err(PublishError::Away));

    let publisher = world.broker.publisher();
    let patient = tokio::spawn(async move {
        publisher.publish_until_confirmed(&route, &numbered(2), &CancellationToken::new()).await
    });
    proxy.heal();
    tokio::time::timeout(PATIENCE, patient).await.unwrap().unwrap().unwrap();
    world.broker.ready(PATIENCE).await.unwrap();
    world.depth_becomes(&world.topology.deliveries(), 1).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_deleted_under_us_is_declared_again() {
    let world = World::start().await;
    let mut deliveries = world.consume(&world.topology.deliveries(), 10);
    attached(&deliveries).await;
    let retry = world.topology.retry(STEP);
    world.delete_queue(&world.topology.deliveries()).await;
    world.delete_queue(&retry).await;

    let publisher = world.broker.publisher();
    let (route, message, stop) = (Route::queue(retry), numbered(1), CancellationToken::new());
    let publishing = publisher.publish_until_confirmed(&route, &message, &stop);
    tokio::time::timeout(PATIENCE, publishing).await.unwrap().unwrap();
    let incoming = next(&mut deliveries).await;
    assert_eq!(number(&incoming), 1);
    incoming.ack_handle.ack();
    drop(deliveries);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_comes_again() {
    let world = World::start().await;
    let mut deliveries = world.consume(&world.topology.deliveries(), 10);
    world.fill(&world.topology.deliveries(), 1).await;
    next(&mut deliveries).await.ack_handle.give_back();
    let again = next(&mut deliveries).await;
    assert!(again.redelivered);
    again.ack_handle.ack();
    world.runs_empty(deliveries).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_gives_back_what_was_prefetched_and_keeps_what_is_in_hand() {
    let world = World::start().await;
    world.fill(&world.topology.deliveries(), 10).await;
    let mut first = world.consume(&world.topology.deliveries(), 10);
    let in_hand = next(&mut first).await;
    world.depth_becomes(&world.topology.deliveries(), 0).await;
    assert_eq!(first.cancel().await, 9);

    let mut second = world.consume(&world.topology.deliveries(), 10);
    let rest = take(&mut second, 9).await;
    assert!(!numbers(&rest).contains(&number(&in_hand)));
    in_hand.ack_handle.ack();
    rest.into_iter().for_each(|incoming| incoming.ack_handle.ack());
    world.runs_empty(second).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prefetch_bounds_what_is_in_hand() {
    let world = World::start().await;
    world.fill(&world.topology.deliveries(), 10).await;
    let mut deliveries = world.consume(&world.topology.deliveries(), 3);
    let mut in_hand = take(&mut deliveries, 3).await;
    world.depth_becomes(&world.topology.deliveries(), 7).await;

    in_hand.pop().unwrap().ack_handle.ack();
    in_hand.push(next(&mut deliveries).await);
    world.depth_becomes(&world.topology.deliveries(), 6).await;
    in_hand.into_iter().for_each(|incoming| incoming.ack_handle.give_back());
    drop(deliveries);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_head_does_not_hold_up_the_acks_behind_it() {
    let world = World::start().await;
    world.fill(&world.topology.deliveries(), 50).await;
    let mut deliveries = world.consume(&world.topology.deliveries(), 4);
    let slow = next(&mut deliveries).await;
    // Only three more are out at once: without single acks the fifth message would never come.
    for _ in 1..50 {
        next(&mut deliveries).await.ack_handle.ack();
    }
    slow.ack_handle.ack();
    world.runs_empty(deliveries).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_messages_are_consumed_and_acked() {
    const MESSAGES: usize = 20_000;
    let world = World::start().await;
    let began = Instant::now();
    world.fill(&world.topology.deliveries(), MESSAGES).await;
    let published = began.elapsed();

    let mut deliveries = world.consume(&world.topology.deliveries(), 400);
    attached(&deliveries).await;
    let began = Instant::now();
    let mut seen = HashSet::with_capacity(MESSAGES);
    while seen.len() < MESSAGES {
        let incoming = next(&mut deliveries).await;
        seen.insert(number(&incoming));
        incoming.ack_handle.ack();
    }
    let consumed = began.elapsed();
    world.runs_empty(deliveries).await;
    let rate = |took: Duration| MESSAGES as f64 / took.as_secs_f64();
    println!("published {:.0}/s, consumed and acked {:.0}/s", rate(published), rate(consumed));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_queue_has_no_depth() {
    let world = World::start().await;
    let queues = [world.topology.lane(&AppId::parse("wx-none").unwrap()), world.topology.deliveries()];
    let depths = world.broker.depths(&queues).await.unwrap();
    assert_eq!(depths, [(world.topology.deliveries(), 0)]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_is_waited_for_and_named() {
    let place = Place::new();
    let proxy = Proxy::to(&place.url).await;
    proxy.close();
    let broker = place.connect(&proxy.url);
    let refusal = broker.ready(Duration::from_millis(500)).await.unwrap_err().to_string();
    assert!(refusal.contains("connect"), "{refusal}");
    proxy.heal();
    broker.ready(PATIENCE).await.unwrap();
    broker.close().await;
    assert!(!broker.health().borrow().is_up());
    place.clear().await;
}

/// A corner of the broker with names of its own, so that tests do not meet.
struct Place {
    prefix: String,
    url: String,
    topology: Topology,
}

impl Place {
    fn new() -> Self {
        let url = std::env::var("WN_TEST_AMQP_URL").expect("WN_TEST_AMQP_URL names the broker to test with");
        let prefix = format!("it-{:08x}", fastrand::u32(..));
        let topology = Topology::new(&prefix, &Ladder::new(vec![STEP, Duration::from_secs(60)]).unwrap());
        Self { prefix, url, topology }
    }

    fn connect(&self, url: &str) -> Broker {
        let config = config::Amqp {
            url: url.to_owned().into(),
            prefix: self.prefix.clone(),
            prefetch: 10,
            max_body_bytes: 256 * 1024,
            ca_file: None,
        };
        Broker::start(&config, self.topology.clone(), &Tasks::default()).unwrap()
    }

    async fn raw_channel(&self) -> (lapin::Connection, lapin::Channel) {
        let connection = lapin::Connection::connect(&self.url, Default::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        (connection, channel)
    }

    /// A quorum queue made by somebody else.
    async fn foreign_queue(&self, name: &str) {
        let (_connection, channel) = self.raw_channel().await;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    }

    async fn delete_queue(&self, name: &str) {
        let (_connection, channel) = self.raw_channel().await;
        channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    /// Leaves nothing behind.
    async fn clear(&self) {
        let (_connection, channel) = self.raw_channel().await;
        for queue in self.topology.queues() {
            channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
        }
        for exchange in [self.topology.events(), self.topology.dead()] {
            channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.unwrap();
        }
    }
}

/// A place with a connected broker.
struct World {
    place: Place,
    broker: Broker,
}

impl std::ops::Deref for World {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl World {
    async fn start() -> Self {
        let place = Place::new();
        let url = place.url.clone();
        Self::at(place, &url).await
    }

    async fn behind_proxy() -> (Self, Proxy) {
        let place = Place::new();
        let proxy = Proxy::to(&place.url).await;
        (Self::at(place, &proxy.url).await, proxy)
    }

    async fn at(place: Place, url: &str) -> Self {
        let broker = place.connect(url);
        broker.ready(PATIENCE).await.unwrap();
        Self { place, broker }
    }

    fn consume(&self, queue: &str, prefetch: u16) -> Subscription {
        self.broker.consume(queue, prefetch)
    }

    async fn publish(&self, route: &Route, message: Message) -> Result<(), PublishError> {
        self.broker.publisher().publish(route.clone(), message).await
    }

    /// Puts messages 0, 1, 2, … into a queue.
    async fn fill(&self, queue: &str, messages: usize) {
        let route = Route::queue(queue);
        let publishes = (0..messages).map(|n| self.publish(&route, numbered(n)));
        assert!(join_all(publishes).await.iter().all(Result::is_ok));
    }

    async fn depth_becomes(&self, queue: &str, wanted: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let depths = self.broker.depths(&[queue.to_owned()]).await.unwrap();
            if depths[0].1 == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{queue} holds {} messages, not {wanted}", depths[0].1);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the consumer and its channel: what was not acked would be in the queue again.
    async fn runs_empty(&self, last: Subscription) {
        let queue = self.topology.deliveries();
        assert_eq!(last.cancel().await, 0, "more was there than the test took");
        self.broker.close().await;
        let after = self.connect(&self.url);
        after.ready(PATIENCE).await.unwrap();
        assert_eq!(after.depths(std::slice::from_ref(&queue)).await.unwrap(), [(queue, 0)]);
        after.close().await;
    }

    async fn end(self) {
        self.broker.close().await;
        self.clear().await;
    }
}

fn numbered(n: usize) -> Message {
    Message::json(n.to_string())
}

fn number(incoming: &Incoming) -> usize {
    std::str::from_utf8(&incoming.message.body).unwrap().parse().unwrap()
}

fn numbers(incomings: &[Incoming]) -> HashSet<usize> {
    incomings.iter().map(number).collect()
}

async fn next(subscription: &mut Subscription) -> Incoming {
    tokio::time::timeout(PATIENCE, subscription.next())
        .await
        .expect("nothing came")
        .expect("the broker was closed")
}

async fn take(subscription: &mut Subscription, count: usize) -> Vec<Incoming> {
    let mut taken = Vec::with_capacity(count);
    while taken.len() < count {
        taken.push(next(subscription).await);
    }
    taken
}

async fn attached(subscription: &Subscription) {
    let mut attached = subscription.attached();
    tokio::time::timeout(PATIENCE, attached.wait_for(|attached| *attached)).await.unwrap().unwrap();
}

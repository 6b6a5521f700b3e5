//! Ways for business systems to publish: the Python program we ship, and our own command in a pipe.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, ExchangeKind};

use crate::support::{EventBody, World, event, given};

#[tokio::test]
async fn the_python_publisher_brings_an_event_from_a_file_or_standard_input() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let _daemon = world.daemon().await;

    let file = std::env::temp_dir().join(format!("{}-event.json", world.name));
    std::fs::write(&file, body(&event("filed").to(&["zhangsan"]))).unwrap();
    let filed = python(&world, &world.name, file.to_str().unwrap(), "");
    std::fs::remove_file(&file).unwrap();
    assert_eq!((filed.status.code(), said(&filed)), (Some(0), "confirmed filed\n".to_owned()));

    let piped = python(&world, &world.name, "-", &body(&event("piped").to(&["zhangsan"])));
    assert_eq!((piped.status.code(), said(&piped)), (Some(0), "confirmed piped\n".to_owned()));

    for event_id in ["filed", "piped"] {
        assert_eq!(world.ended(event_id).await.end(), "sent");
    }
    // UTF-8 all the way, not \u-escaped: WeChat would refuse that (47002).
    let got = world.wechat.ask("sent?openid=o-zhang&full=1").await.to_string();
    assert!(got.contains("¥100.00"), "{got}");
    world.conserved(["filed", "piped"].map(str::to_owned)).await;
}

#[tokio::test]
async fn the_python_publisher_says_when_nobody_would_hear_the_event() {
    let world = World::new().await;
    let deaf = format!("{}-deaf", world.name);
    let exchange = Exchange::without_queues(&world, &format!("{deaf}.events")).await;
    let unroutable = python(&world, &deaf, "-", &body(&event("lost")));
    exchange.delete().await;
    assert_eq!((unroutable.status.code(), said(&unroutable)), (Some(1), String::new()));
    let complaint = format!("not published: exchange {deaf}.events has no queue");
    assert!(complained(&unroutable).starts_with(&complaint), "{}", complained(&unroutable));

    let nowhere = python(&world, &format!("{}-nowhere", world.name), "-", &body(&event("lost")));
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(complained(&nowhere).starts_with("not published: "), "{}", complained(&nowhere));

    let nonsense = python(&world, &world.name, "-", "not JSON");
    assert_eq!(nonsense.status.code(), Some(1));
    assert!(complained(&nonsense).contains("must be a JSON object"), "{}", complained(&nonsense));
}

#[tokio::test]
async fn our_own_command_publishes_what_comes_through_a_pipe() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let _daemon = world.daemon().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_wechat-notifier"));
    command
        .args(["publish", "-"])
        .env("AMQP_URL", &world.amqp_url)
        .env("WECHAT_NOTIFIER_AMQP__PREFIX", &world.name);

    let piped = fed(&mut command, &body(&event("piped").to(&["zhangsan"])));

    assert_eq!((piped.status.code(), said(&piped)), (Some(0), "published piped\n".to_owned()));
    assert_eq!(world.ended("piped").await.end(), "sent");
}

/// The shipped permissions, for real: a publisher can publish, and nothing else.
#[tokio::test]
async fn the_shipped_roles_are_enough_for_the_daemon_and_for_whoever_publishes() {
    let mut world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let roles = Roles::grant(&world.name);
    let publisher = roles.url(&world.amqp_url, "publisher");
    world.amqp_url = roles.url(&world.amqp_url, "notifier");
    let as_publisher = |body: String| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wechat-notifier"));
        command.args(["publish", "-"]).env("AMQP_URL", &publisher);
        fed(command.env("WECHAT_NOTIFIER_AMQP__PREFIX", &world.name), &body)
    };

    // Before any daemon was there.
    let early = as_publisher(body(&event("early").to(&["zhangsan"])));
    assert_eq!(early.status.code(), Some(1));
    assert!(
        complained(&early).contains(&format!("{}.events does not exist", world.name)),
        "{}",
        complained(&early)
    );

    let _daemon = world.daemon().await;
    let published = as_publisher(body(&event("by-role").to(&["zhangsan"])));
    assert_eq!((published.status.code(), said(&published)), (Some(0), "published by-role\n".to_owned()));
    assert_eq!(world.ended("by-role").await.end(), "sent");
    world.conserved(["by-role".to_owned()]).await;
}

/// Users of the broker as `deploy/rabbitmq/permissions` makes them, in a virtual host of their own.
struct Roles {
    prefix: String,
}

impl Roles {
    const PASSWORD: &str = "only-here";

    fn grant(prefix: &str) -> Self {
        let password = std::env::temp_dir().join(format!("{prefix}-password"));
        std::fs::write(&password, Self::PASSWORD).unwrap();
        let granted = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rabbitmq/permissions"))
            .args([prefix.as_ref(), password.as_os_str(), password.as_os_str()])
            .env("AMQP_PREFIX", prefix)
            .env("RABBITMQCTL", format!("{} rabbitmqctl", given("WN_TEST_SERVERS")))
            .output()
            .unwrap();
        std::fs::remove_file(&password).unwrap();
        assert!(granted.status.success(), "{}", complained(&granted));
        Self { prefix: prefix.to_owned() }
    }

    fn url(&self, broker: &str, role: &str) -> String {
        let mut url: lapin::uri::AMQPUri = broker.parse().unwrap();
        url.authority.userinfo.username = format!("{}-{role}", self.prefix);
        url.authority.userinfo.password = Self::PASSWORD.to_owned();
        url.vhost.clone_from(&self.prefix);
        url.to_string()
    }
}

/// Runs the Python program to its end.
fn python(world: &World, prefix: &str, event: &str, input: &str) -> Output {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/publishers/publish_event.py");
    let mut command = Command::new(given("WN_TEST_PYTHON"));
    command.args([program, "--url", &world.amqp_url, "--prefix", prefix, "payment.paid", event]);
    // As in a bare container: the program must not depend on the locale.
    fed(command.env("LC_ALL", "C"), input)
}

/// Runs a command to its end, with this on its standard input.
fn fed(command: &mut Command, input: &str) -> Output {
    let mut running =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    running.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    running.wait_with_output().unwrap()
}

fn body(event: &EventBody) -> String {
    event.0.to_string()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complained(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An exchange of somebody who declared half of the topology.
struct Exchange {
    connection: Connection,
    name: String,
}

impl Exchange {
    async fn without_queues(world: &World, name: &str) -> Self {
        let connection = Connection::connect(&world.amqp_url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declared =
            channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default());
        declared.await.unwrap();
        Self { connection, name: name.to_owned() }
    }

    async fn delete(self) {
        let channel = self.connection.create_channel().await.unwrap();
        channel.exchange_delete(self.name.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
    }
}

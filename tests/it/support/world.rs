//! One test's world.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::NoTls;

use super::{Daemon, WeChat, given};

pub const APP: &str = "wx0123456789abcdef";
pub const COMPANY: &str = "C001";
pub const TEMPLATE: &str = "i6Mr7Qlw-w3KAxRz0ol84rPTXmvCoFwJgIHOw1tbiAI";

/// A test's own queues, schema and WeChat.
pub struct World {
    /// First word of the queues, and the schema's name.
    pub name: String,
    pub amqp_url: String,
    pub database_url: String,
    pub wechat: WeChat,
    pub db: tokio_postgres::Client,
}

impl World {
    /// A world with one registered app and nobody in it yet.
    pub async fn new() -> Self {
        Self::on(&given("WN_TEST_AMQP_URL"), &given("WN_TEST_DATABASE_URL")).await
    }

    /// The same on other servers than the shared ones.
    pub async fn on(amqp_url: &str, database_url: &str) -> Self {
        let world = Self::empty(amqp_url, database_url).await;
        world.cli(&["migrate"]).await;
        world.app(APP, "secret").await;
        world
    }

    /// A world whose schema holds what this SQL makes, and which WeChat knows the usual app of. Nothing is migrated.
    pub async fn over(sql: &str) -> Self {
        let world = Self::empty(&given("WN_TEST_AMQP_URL"), &given("WN_TEST_DATABASE_URL")).await;
        world.db.batch_execute(sql).await.unwrap();
        world.wechat.register(APP, "secret").await;
        world
    }

    async fn empty(amqp_url: &str, database_url: &str) -> Self {
        let name = unique_name();
        let database_url = with_schema(database_url, &name);
        let db = connection_to(&database_url).await;
        db.batch_execute(&format!("CREATE SCHEMA {name}")).await.unwrap();
        Self { name, amqp_url: amqp_url.to_owned(), database_url, wechat: WeChat::start().await, db }
    }

    /// One more connection to this world's schema.
    pub async fn connect(&self) -> tokio_postgres::Client {
        connection_to(&self.database_url).await
    }

    /// The test's own connection ends with its server; this makes a new one.
    pub async fn reconnect(&mut self) {
        self.db = self.connect().await;
    }

    /// Registers an app here and with WeChat.
    pub async fn app(&self, app_id: &str, secret: &str) {
        self.wechat.register(app_id, secret).await;
        self.db
            .execute(
                "INSERT INTO t_wechat_app (app_id, app_name, app_secret) VALUES ($1, $1, $2)",
                &[&app_id, &secret],
            )
            .await
            .unwrap();
    }

    /// Binds a business user to an openid of the usual app, with consent that is not counted.
    pub async fn user(&self, sys_user_id: &str, openid: &str) {
        self.user_with(sys_user_id, openid, &serde_json::json!({"status": "accept", "remaining": null}))
            .await;
    }

    /// Binds a business user whose record for the usual template is this.
    pub async fn user_with(&self, sys_user_id: &str, openid: &str, consent: &serde_json::Value) {
        self.user_of(APP, sys_user_id, openid, consent).await;
    }

    /// The same in any app.
    pub async fn user_of(&self, app_id: &str, sys_user_id: &str, openid: &str, consent: &serde_json::Value) {
        let record = serde_json::json!({ TEMPLATE: consent });
        self.db
            .execute(
                "INSERT INTO t_wechat_user (app_id, openid, sys_user_id, subscribe_template) VALUES ($1, $2, $3, $4)",
                &[&app_id, &openid, &sys_user_id, &record],
            )
            .await
            .unwrap();
    }

    /// Binds `count` users `user-1`… with openids `openid-1`…, all willing.
    pub async fn crowd(&self, count: i32) {
        self.crowd_of(APP, count).await;
    }

    /// The same in any app.
    pub async fn crowd_of(&self, app_id: &str, count: i32) {
        self.db
            .execute(
                "INSERT INTO t_wechat_user (app_id, openid, sys_user_id, subscribe_template)
                 SELECT $1, 'openid-' || n, 'user-' || n, jsonb_build_object($2::text, '{\"status\": \"accept\"}'::jsonb)
                   FROM generate_series(1, $3::int) n",
                &[&app_id, &TEMPLATE, &count],
            )
            .await
            .unwrap();
    }

    /// A rule of the usual company, app and template.
    pub async fn rule(&self, sys_user_ids: &[&str]) {
        self.db
            .execute(
                "INSERT INTO t_wechat_message_user (company_no, app_id, template_id, sys_user_ids) VALUES ($1, $2, $3, $4)",
                &[&COMPANY, &APP, &TEMPLATE, &sys_user_ids],
            )
            .await
            .unwrap();
    }

    /// A rule that names every user bound so far, and these besides.
    pub async fn rule_for_all_and(&self, sys_user_ids: &[&str]) {
        self.db
            .execute(
                "INSERT INTO t_wechat_message_user (company_no, app_id, template_id, sys_user_ids)
                 SELECT $1, $2, $3, array_agg(sys_user_id) || $4::text[] FROM t_wechat_user WHERE app_id = $2",
                &[&COMPANY, &APP, &TEMPLATE, &sys_user_ids],
            )
            .await
            .unwrap();
    }

    /// Starts a daemon and waits until it is ready.
    pub async fn daemon(&self) -> Daemon {
        self.daemon_with(&[]).await
    }

    /// Starts a daemon with these settings over the tests' own, and waits until it is ready.
    pub async fn daemon_with(&self, settings: &[(&str, &str)]) -> Daemon {
        let daemon = self.spawn(settings);
        daemon.until_ready().await;
        daemon
    }

    /// Starts a daemon and waits for nothing.
    pub fn spawn(&self, settings: &[(&str, &str)]) -> Daemon {
        self.spawn_in(&[], settings)
    }

    /// The same with these variables in its environment, which are no settings.
    pub fn spawn_in(&self, surroundings: &[(&str, &str)], settings: &[(&str, &str)]) -> Daemon {
        Daemon::spawn(&self.settings(), settings, surroundings)
    }

    /// Lets a daemon empty the queues and stop in order: whatever a message in its hands would still have done, it has done.
    pub async fn finish(&self, daemon: Daemon) {
        let mut daemon = daemon;
        loop {
            self.queues_empty().await;
            daemon.terminate();
            assert_eq!(daemon.exit().await, Some(0), "the daemon did not stop in order");
            if self.queued().await == 0 {
                return;
            }
            // What it held was given back at the stop.
            daemon = self.daemon().await;
        }
    }

    /// Runs a command of the daemon's binary, which must succeed; answers what it printed.
    pub async fn cli(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "wechat-notifier {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command of the daemon's binary, whatever comes of it.
    pub async fn command(&self, arguments: &[&str]) -> std::process::Output {
        self.command_with(arguments, &[]).await
    }

    /// The same with these settings over the tests' own.
    pub async fn command_with(&self, arguments: &[&str], settings: &[(&str, &str)]) -> std::process::Output {
        self.to_run(arguments, settings).output().await.unwrap()
    }

    /// Starts a command of the daemon's binary and waits for nothing. Killed when dropped.
    pub fn start(&self, arguments: &[&str]) -> tokio::process::Child {
        let mut command = self.to_run(arguments, &[]);
        let piped = std::process::Stdio::piped;
        command.stdin(std::process::Stdio::null()).stdout(piped()).stderr(piped()).kill_on_drop(true);
        command.spawn().unwrap()
    }

    fn to_run(&self, arguments: &[&str], settings: &[(&str, &str)]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_wechat-notifier"));
        command
            .args(arguments)
            .envs(self.settings())
            .envs(settings.iter().map(|(key, value)| (format!("WECHAT_NOTIFIER_{key}"), value)));
        command
    }

    /// Everything a process of this world must be told. Waits are short, so that a story with retries takes seconds.
    fn settings(&self) -> Vec<(String, String)> {
        [
            ("AMQP__URL", self.amqp_url.as_str()),
            ("AMQP__PREFIX", &self.name),
            ("DATABASE__URL", &self.database_url),
            ("WECHAT__API_BASE", &self.wechat.base),
            ("WECHAT__REQUEST_TIMEOUT", "2s"),
            ("DELIVERY__LEASE_MARGIN", "2s"),
            ("DELIVERY__TAKEOVER_GRACE", "0s"),
            ("DELIVERY__MAX_HOLD", "5s"),
            ("RETRY__DELAYS", r#"["100ms", "200ms", "400ms", "800ms", "1600ms"]"#),
            ("SHUTDOWN__DRAIN", "10s"),
            ("OPS__LISTEN", "127.0.0.1:0"),
            ("LOG__FORMAT", "json"),
        ]
        .into_iter()
        .map(|(key, value)| (format!("WECHAT_NOTIFIER_{key}"), value.to_owned()))
        .collect()
    }
}

impl Drop for World {
    /// The broker is shared: a test leaves no queues behind. Each costs it memory, and the suite has hundreds.
    fn drop(&mut self) {
        let (url, prefix) = (self.amqp_url.clone(), self.name.clone());
        // Its own thread and runtime: the test's own is in the middle of ending.
        let swept = std::thread::spawn(move || super::publishing::sweep(&url, &prefix)).join();
        if swept.is_err() && !std::thread::panicking() {
            panic!("the test's queues could not be deleted");
        }
    }
}

/// Process ids alone come again: a run starts more processes than Linux has ids for by default.
fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("t{}x{count}x{:x}", std::process::id(), fastrand::u32(..))
}

fn with_schema(url: &str, schema: &str) -> String {
    let join = if url.contains('?') { '&' } else { '?' };
    format!("{url}{join}options=-csearch_path%3D{schema}")
}

async fn connection_to(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

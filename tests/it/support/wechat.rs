//! The simulated WeChat of one test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// A simulator process. Killed when dropped.
pub struct WeChat {
    child: Child,
    pub base: String,
}

impl WeChat {
    pub(super) async fn start() -> Self {
        Self::at("127.0.0.1:0").expect("the simulator names its address")
    }

    /// Listening at this address, if that is free.
    fn at(address: &str) -> Option<Self> {
        let child = Command::new(env!("CARGO_BIN_EXE_wechat-simulator"))
            .args(["--listen", address])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut wechat = Self { child, base: String::new() };
        let mut line = String::new();
        BufReader::new(wechat.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        wechat.base = line.trim().strip_prefix("listening on ")?.to_owned();
        Some(wechat)
    }

    /// Makes an app known.
    pub async fn register(&self, app_id: &str, secret: &str) {
        self.tell("apps", json!({ "appid": app_id, "secret": secret })).await;
    }

    /// After [`Self::kill`]: it listens again where it did, and remembers nothing.
    pub async fn come_back(&mut self) {
        let address = self.base.trim_start_matches("http://").to_owned();
        *self = super::eventually("the address to be free again", async || Self::at(&address)).await;
    }

    /// Posts to `/_sim/<what>`.
    pub async fn tell(&self, what: &str, body: Value) -> Value {
        let answer = http().post(format!("{}/_sim/{what}", self.base)).json(&body).send().await.unwrap();
        let (status, answer) = (answer.status(), answer.json().await.unwrap_or_default());
        assert!(status.is_success(), "the simulator refuses {what}: {answer}");
        answer
    }

    /// Adds a fault (see the simulator's documentation).
    pub async fn fault(&self, fault: Value) {
        self.tell("faults", fault).await;
    }

    /// Takes one fault away, by the number that the simulator gave it.
    pub async fn lift(&self, id: &Value) {
        http().delete(format!("{}/_sim/faults/{id}", self.base)).send().await.unwrap();
    }

    /// All answers are as they should be from now on.
    pub async fn heal(&self) {
        http().delete(format!("{}/_sim/faults", self.base)).send().await.unwrap();
    }

    /// How many messages a user got.
    pub async fn got(&self, openid: &str) -> i64 {
        self.ask(&format!("sent?openid={openid}")).await["total"].as_i64().unwrap()
    }

    /// How many messages all users got.
    pub async fn got_by_all(&self) -> i64 {
        self.ask("sent").await["total"].as_i64().unwrap()
    }

    /// Messages that a user got again.
    pub async fn doubles(&self) -> i64 {
        self.ask("doubles").await["surplus"].as_i64().unwrap()
    }

    /// Requests to `subscribe/send` so far.
    pub async fn send_requests(&self) -> i64 {
        self.ask("stats").await["requests"]["send"].as_i64().unwrap_or_default()
    }

    /// Waits until WeChat has received this many requests to send in all.
    pub async fn requests_reach(&self, count: i64) {
        super::eventually(&format!("{count} requests to send"), async || {
            (self.send_requests().await >= count).then_some(())
        })
        .await;
    }

    /// Token fetches of an app so far, over all endpoints.
    pub async fn token_fetches(&self, app_id: &str) -> i64 {
        let stats = self.ask("stats").await;
        let kinds = stats["token_fetches"][app_id].as_object().cloned().unwrap_or_default();
        kinds.values().filter_map(Value::as_i64).sum()
    }

    /// WeChat is gone: nothing listens any more.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks `/_sim/<what>`.
    pub async fn ask(&self, what: &str) -> Value {
        http().get(format!("{}/_sim/{what}", self.base)).send().await.unwrap().json().await.unwrap()
    }
}

impl Drop for WeChat {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A plain HTTP client.
pub fn http() -> reqwest::Client {
    // Several tests of one process ask; only the first can install it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

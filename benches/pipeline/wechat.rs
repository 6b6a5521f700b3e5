//! The simulated WeChat: one process for the whole run.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::subject;

/// More cannot be asked for: the simulator keeps no more.
pub const REQUESTS_KEPT: usize = 10_000;

/// A simulator. Ends with this program.
pub struct WeChat {
    child: Child,
    pub base: String,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct Stats {
    sends_accepted: u64,
}

#[derive(Deserialize)]
struct Requests {
    requests: Vec<Request>,
}

#[derive(Deserialize)]
struct Request {
    openid: Option<String>,
    received_us: u64,
}

impl WeChat {
    pub fn start() -> Result<Self> {
        let program = subject::sibling("wechat-simulator")?;
        let mut child = Command::new(&program.path)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.path.display()))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
        let base = line.trim().strip_prefix("listening on ").context("the simulator names no address")?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { child, base: base.to_owned(), http })
    }

    /// Answers after this long from now on, and lets one in `failing_every` sends fail once with WeChat's "system busy".
    pub async fn behave(&self, latency_ms: u64, failing_every: Option<u32>) -> Result<()> {
        self.http.delete(format!("{}/_sim/faults", self.base)).send().await?.error_for_status()?;
        self.tell("latency", json!({ "ms": latency_ms })).await?;
        if let Some(every) = failing_every {
            let busy = json!({ "match": { "path": "send" }, "every": every, "action": { "errcode": -1 } });
            self.tell("faults", busy).await?;
        }
        Ok(())
    }

    /// Makes an app known, with its secret.
    pub async fn register(&self, app_id: &str, secret: &str) -> Result<()> {
        self.tell("apps", json!({ "appid": app_id, "secret": secret })).await
    }

    /// Messages that users got so far.
    pub async fn sends(&self) -> Result<u64> {
        Ok(self.ask::<Stats>("stats").await?.sends_accepted)
    }

    /// Messages that users got again.
    pub async fn doubles(&self) -> Result<u64> {
        Ok(self.ask::<Value>("doubles").await?["surplus"].as_u64().unwrap_or_default())
    }

    /// When the newest send to each user was received, in microseconds since 1970.
    pub async fn received(&self) -> Result<HashMap<String, u64>> {
        let newest: Requests = self.ask(&format!("requests?path=send&limit={REQUESTS_KEPT}")).await?;
        Ok(newest
            .requests
            .into_iter()
            .filter_map(|request| Some((request.openid?, request.received_us)))
            .collect())
    }

    async fn tell(&self, what: &str, body: Value) -> Result<()> {
        self.http.post(format!("{}/_sim/{what}", self.base)).json(&body).send().await?.error_for_status()?;
        Ok(())
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, what: &str) -> Result<T> {
        Ok(self.http.get(format!("{}/_sim/{what}", self.base)).send().await?.json().await?)
    }
}

impl Drop for WeChat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

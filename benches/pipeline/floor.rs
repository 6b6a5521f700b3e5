//! The floor: consume, post, ack in prefixes, and nothing else. What any daemon of this kind must at least do, with the
//! same crates, the same prefetch and as many requests at once.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use super::load;

/// Settled tags taken up at once.
const ROUND: usize = 1024;

#[derive(clap::Args)]
pub struct Floor {
    #[arg(long)]
    amqp_url: String,
    #[arg(long)]
    queue: String,
    #[arg(long)]
    wechat: String,
    #[arg(long)]
    prefetch: u16,
    #[arg(long)]
    in_flight: usize,
}

/// What a request needs, shared by all.
struct Poster {
    http: reqwest::Client,
    url: reqwest::Url,
    permits: Semaphore,
    settled: mpsc::UnboundedSender<u64>,
}

impl Floor {
    /// Works until it is killed.
    pub async fn run(self) -> Result<()> {
        let http = client(self.in_flight)?;
        let url = send_url(&http, &self.wechat).await?;
        let connection = Connection::connect(&self.amqp_url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
        let (settled, acks) = mpsc::unbounded_channel();
        tokio::spawn(ack(channel.clone(), acks));
        let poster = Arc::new(Poster { http, url, permits: Semaphore::new(self.in_flight), settled });
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer =
            channel.basic_consume(self.queue.into(), "floor".into(), options, arguments).await?;
        writeln!(std::io::stdout(), "ready")?;
        while let Some(delivery) = consumer.next().await {
            tokio::spawn(Arc::clone(&poster).bring(delivery?));
        }
        Ok(())
    }
}

impl Poster {
    async fn bring(self: Arc<Self>, delivery: Delivery) {
        let tag = delivery.delivery_tag;
        match self.post(&delivery).await {
            Ok(()) => drop(self.settled.send(tag)),
            // Unacked, so the run never gets to its end, which is noticed.
            Err(error) => eprintln!("the floor cannot send: {error:#}"),
        }
    }

    async fn post(&self, delivery: &Delivery) -> Result<()> {
        let openid = delivery.properties.message_id().as_ref().context("an event without a message id")?;
        let body = load::request_body(openid.as_str());
        let _permit = self.permits.acquire().await?;
        let json = HeaderValue::from_static("application/json");
        let request = self.http.post(self.url.clone()).header(CONTENT_TYPE, json).body(body);
        let answer = request.send().await?.bytes().await?;
        ensure!(answer.starts_with(br#"{"errcode":0"#), "{}", String::from_utf8_lossy(&answer));
        Ok(())
    }
}

/// The daemon's own settings of the client.
fn client(in_flight: usize) -> Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .http1_only()
        .pool_max_idle_per_host(in_flight)
        .timeout(std::time::Duration::from_secs(10))
        .tcp_nodelay(true);
    Ok(builder.no_gzip().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?)
}

async fn send_url(http: &reqwest::Client, base: &str) -> Result<reqwest::Url> {
    let credentials =
        json!({ "grant_type": "client_credential", "appid": load::APP, "secret": load::SECRET });
    let answer = http.post(format!("{base}/cgi-bin/stable_token")).json(&credentials).send().await?;
    let answer: Value = answer.json().await?;
    let token = answer["access_token"].as_str().with_context(|| format!("no token: {answer}"))?;
    let path = format!("{base}/cgi-bin/message/subscribe/send?access_token={token}");
    Ok(reqwest::Url::parse(&path)?)
}

/// Acks the settled prefix, as far as it reaches each time.
async fn ack(channel: Channel, mut settled: mpsc::UnboundedReceiver<u64>) -> Result<()> {
    let (mut acked, mut beyond, mut round) = (0_u64, BTreeSet::new(), Vec::with_capacity(ROUND));
    while settled.recv_many(&mut round, ROUND).await > 0 {
        beyond.extend(round.drain(..));
        let before = acked;
        while beyond.remove(&(acked + 1)) {
            acked += 1;
        }
        if acked > before {
            channel.basic_ack(acked, BasicAckOptions { multiple: true }).await?;
        }
    }
    Ok(())
}

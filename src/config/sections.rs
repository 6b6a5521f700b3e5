//! The configuration: one struct for each section of the file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::domain::ladder::Ladder;
use crate::domain::protocol::OnUnknown;

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that was read, in full; `None`: defaults and environment alone.
    pub file: Option<PathBuf>,
    pub amqp: Amqp,
    pub database: Database,
    pub wechat: WeChat,
    pub delivery: Delivery,
    pub retry: Retry,
    pub http: Http,
    pub ops: Ops,
    pub shutdown: Shutdown,
    pub security: Security,
    pub retention: Retention,
    pub log: Log,
}

/// The broker.
#[derive(Debug, Clone)]
pub struct Amqp {
    /// `amqp://` or `amqps://`, credentials included.
    pub url: SecretString,
    /// First word of every queue and exchange.
    pub prefix: String,
    /// Unacked fresh events per process; the queue of retried deliveries gets a quarter of it.
    pub prefetch: u16,
    /// Largest message accepted, in bytes.
    pub max_body_bytes: usize,
    /// PEM file of an extra certificate authority for `amqps://`.
    pub ca_file: Option<PathBuf>,
}

/// PostgreSQL.
#[derive(Debug, Clone)]
pub struct Database {
    /// `postgres://…`, credentials included. `sslmode=require` enables TLS.
    pub url: SecretString,
    /// Apply missing migrations when `run` starts.
    pub migrate_on_start: bool,
    /// Connections in the pool. Statements are batched, so a few are enough.
    pub pool_size: usize,
    /// PEM file of an extra certificate authority.
    pub ca_file: Option<PathBuf>,
}

/// WeChat's API.
#[derive(Debug, Clone)]
pub struct WeChat {
    /// Scheme and host, no trailing slash.
    pub api_base: String,
    /// How long one request may take before its outcome is unknown.
    pub request_timeout: Duration,
}

/// The pipeline.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Requests in flight per process, over all apps.
    pub concurrency: usize,
    pub on_unknown: OnUnknown,
    /// Time to live of an event without `expires_at`.
    pub default_ttl: Duration,
    /// How much longer than a request a claim lasts.
    pub lease_margin: Duration,
    /// After PostgreSQL starts no claim is taken over for this long, so that living owners settle first.
    pub takeover_grace: Duration,
    /// How long a message from a lane may wait for the recipient lock, a slot or a token before it is deferred uncharged. Others wait half
    /// a second at most.
    pub max_hold: Duration,
}

/// Retries.
#[derive(Debug, Clone)]
pub struct Retry {
    pub delays: Ladder,
}

/// The API and callback listener.
#[derive(Debug, Clone)]
pub struct Http {
    /// `None` (an empty string in the file) switches the listener off.
    pub listen: Option<SocketAddr>,
}

/// The metrics and health listener.
#[derive(Debug, Clone)]
pub struct Ops {
    pub listen: SocketAddr,
}

/// Stopping.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// How long a soft stop may take.
    pub drain: Duration,
}

/// Keys.
#[derive(Debug, Clone)]
pub struct Security {
    /// File with the 32-byte master key (64 hex digits or base64) that seals secrets at rest.
    pub master_key_file: Option<PathBuf>,
}

/// What is deleted by age.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Closed dead letters are purged when they are this old; `None` (an empty string in the file) keeps them.
    pub dead_letters: Option<Duration>,
    /// Deliveries are removed from the ledger when they were settled this long ago; `None` keeps them. An event whose rows
    /// are gone is a new one.
    pub deliveries: Option<Duration>,
}

/// Logs.
#[derive(Debug, Clone)]
pub struct Log {
    /// `text`, `json`, or `auto`: text on a terminal.
    pub format: LogFormat,
    /// A `tracing` filter, e.g. `info,wechat_notifier=debug`.
    pub level: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Auto,
    Text,
    Json,
}

//! The configuration: one struct per concern, checked once on loading.
//!
//! The shipped `deploy/wechat-notifier.example.toml` *is* the default; the file named by `--config` and then the
//! environment (`WECHAT_NOTIFIER_<SECTION>__<KEY>`) are laid over it.

mod build;
mod document;
mod error;
mod settings;
mod suggest;
mod trust;
mod values;
mod warnings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use crate::domain::ladder::Ladder;
use crate::domain::protocol::OnUnknown;
pub use error::{Advice, ConfigError, Distrust, SetBy};
use settings::Settings;
use trust::Choice;

/// On top of everything that a message can take to come back: a slow broker, a queue that is long.
const MARGIN: Duration = Duration::from_secs(600);
/// The shipped example, which is the default of every key.
const DEFAULTS: &str = include_str!("../deploy/wechat-notifier.example.toml");
/// Read when it is there and no other file is named.
const DEFAULT_PATH: &str = "wechat-notifier.toml";

/// Everything the daemon can be told.
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

impl Config {
    /// After this long every message that was on its way to a ledger row has been back: held in memory, claimed, and once round
    /// the longest step of the ladder.
    pub fn moved_within(&self) -> Duration {
        let lease = self.wechat.request_timeout + self.delivery.lease_margin;
        let longest_step = self.retry.delays.delays().last().copied().unwrap_or_default();
        lease + self.delivery.max_hold + longest_step + MARGIN
    }

    /// Lays the file at `path` and then the environment over the defaults, and checks the whole.
    ///
    /// Without a `path` the file `wechat-notifier.toml` in the current folder is read, if it is there. A file that another
    /// user owns or can write is refused. The environment is
    /// an argument (see [`environment`]) so that a test can bring its own.
    ///
    /// # Errors
    /// The first fault found, with its place and what to do about it.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Settings::defaults(DEFAULTS)?;
        let by_habit = Some(Path::new(DEFAULT_PATH)).filter(|path| path.exists());
        let choice = if path.is_some() { Choice::Named } else { Choice::Found };
        let file = path.or(by_habit);
        if let Some(path) = file {
            settings.lay_file(path, choice)?;
        }
        settings.lay_environment(environment)?;
        let file = file.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        Ok(Self { file, ..build::config(&settings)? })
    }

    /// Where the settings come from, in words: for the log and for `check`.
    pub fn read_from(&self) -> String {
        match &self.file {
            Some(file) => format!("read from {}, then the environment", file.display()),
            None => format!("no file ({DEFAULT_PATH} is not in the current folder), only the environment"),
        }
    }
}

/// This process's environment, without what is not Unicode: no variable of ours is.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    let unicode = |(name, text): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, text.into_string().ok()?))
    };
    std::env::vars_os().filter_map(unicode)
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
    /// `postgres://…`, credentials included. `sslmode=require` turns TLS on.
    pub url: SecretString,
    /// Apply missing migrations when `run` starts.
    pub migrate_on_start: bool,
    /// Connections for reading and settling. Batches need few.
    pub pool_size: usize,
    /// PEM file of an extra certificate authority.
    pub ca_file: Option<PathBuf>,
}

/// WeChat's API.
#[derive(Debug, Clone)]
pub struct WeChat {
    /// Scheme and host, no trailing slash.
    pub api_base: String,
    /// How long one request may take before its outcome counts as unknown.
    pub request_timeout: Duration,
}

/// The pipeline.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Requests in flight per process, over all apps.
    pub concurrency: usize,
    pub on_unknown: OnUnknown,
    /// Time to live of an event that names none.
    pub default_ttl: Duration,
    /// How much longer than a request a claim lasts.
    pub lease_margin: Duration,
    /// After PostgreSQL's own start nobody takes over for this long, so that living holders settle first.
    pub takeover_grace: Duration,
    /// How long an incoming may wait for the recipient lock, slot or token before it is deferred uncharged.
    pub max_hold: Duration,
}

/// Trying again.
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

#[cfg(test)]
mod tests;

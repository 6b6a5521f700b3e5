//! The configuration: one struct per concern, checked once on loading.
//!
//! The shipped `deploy/wechat-notifier.example.toml` *is* the default; the file named by `--config` and then the
//! environment (`WECHAT_NOTIFIER_<SECTION>__<KEY>`) are laid over it.

mod build;
mod document;
mod error;
mod sections;
mod settings;
mod suggest;
mod trust;
mod values;
mod warnings;

use std::path::Path;
use std::time::Duration;

pub use error::{Advice, ConfigError, Distrust, SetBy};
pub use sections::{
    Amqp, Config, Database, Delivery, Http, Log, LogFormat, Ops, Retention, Retry, Security, Shutdown, WeChat,
};
use settings::Settings;
use trust::Choice;

/// Added to the longest time that a message can take to come back: a slow broker, a long queue.
const MARGIN: Duration = Duration::from_secs(600);
/// The shipped example, which is the default of every key.
const DEFAULTS: &str = include_str!("../deploy/wechat-notifier.example.toml");
/// Read if it exists and no other file is named.
const DEFAULT_PATH: &str = "wechat-notifier.toml";

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

#[cfg(test)]
mod tests;

//! Builds the configuration's structs from the settings, key by key; the bounds are here, with their reasons.

use std::time::Duration;

use super::error::ConfigError;
use super::settings::Settings;
use super::{
    Amqp, Config, Database, Delivery, Http, Log, LogFormat, Ops, Retention, Retry, Security, Shutdown, WeChat,
};
use crate::domain::ladder::Ladder;
use crate::domain::protocol::OnUnknown;

/// A drain must outlast the request that was just sent, and leave this long to settle its outcome.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);
/// RabbitMQ allows 255 bytes for a queue's name; `.lane.` and an app id must fit behind the prefix.
const MAX_PREFIX_BYTES: usize = 64;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The whole configuration, checked.
pub(super) fn config(from: &Settings) -> Result<Config, ConfigError> {
    let wechat = wechat(from)?;
    let shutdown = shutdown(from, wechat.request_timeout)?;
    Ok(Config {
        file: None,
        amqp: amqp(from)?,
        database: database(from)?,
        wechat,
        delivery: delivery(from)?,
        retry: retry(from)?,
        http: Http { listen: from.address("http.listen")? },
        ops: ops(from)?,
        shutdown,
        security: Security { master_key_file: from.path("security.master_key_file")? },
        retention: retention(from)?,
        log: log(from)?,
    })
}

fn amqp(from: &Settings) -> Result<Amqp, ConfigError> {
    Ok(Amqp {
        url: from.secret("amqp.url")?,
        prefix: from.parsed("amqp.prefix", "1 to 64 of a-z, A-Z, 0-9, `-`, `_` and `.`", prefix)?,
        // Zero would mean "without bound" to the broker.
        prefetch: from.number("amqp.prefetch", 1..=i64::from(u16::MAX))?,
        // Below a KiB no event fits; above 16 MiB a full prefetch could fill the memory.
        max_body_bytes: from.size("amqp.max_body", 1 << 10..=16 << 20)?,
        ca_file: from.path("amqp.ca_file")?,
    })
}

fn database(from: &Settings) -> Result<Database, ConfigError> {
    Ok(Database {
        url: from.secret("database.url")?,
        migrate_on_start: from.switch("database.migrate_on_start")?,
        // PostgreSQL allows 100 connections by default, for all clients.
        pool_size: from.number("database.pool_size", 1..=100)?,
        ca_file: from.path("database.ca_file")?,
    })
}

fn wechat(from: &Settings) -> Result<WeChat, ConfigError> {
    let wanted = "an http(s) URL without query or password, e.g. \"https://api.weixin.qq.com\"";
    Ok(WeChat {
        api_base: from.parsed("wechat.api_base", wanted, api_base)?,
        // Too short: every outcome is unknown. Too long: claims and slots are held for nothing.
        request_timeout: from.duration("wechat.request_timeout", Duration::from_millis(100)..=MINUTE)?,
    })
}

fn delivery(from: &Settings) -> Result<Delivery, ConfigError> {
    Ok(Delivery {
        concurrency: from.number("delivery.concurrency", 1..=10_000)?,
        on_unknown: from.parsed("delivery.on_unknown", "`resend` or `park`", OnUnknown::parse)?,
        default_ttl: from.duration("delivery.default_ttl", MINUTE..=365 * DAY)?,
        lease_margin: from.duration("delivery.lease_margin", SECOND..=5 * MINUTE)?,
        takeover_grace: from.duration("delivery.takeover_grace", Duration::ZERO..=10 * MINUTE)?,
        // The broker closes channels that hold an unacked message for half an hour.
        max_hold: from.duration("delivery.max_hold", SECOND..=10 * MINUTE)?,
    })
}

fn retry(from: &Settings) -> Result<Retry, ConfigError> {
    let key = "retry.delays";
    let delays = Ladder::new(from.durations(key)?).map_err(|invalid| from.fault(key, invalid))?;
    Ok(Retry { delays })
}

fn ops(from: &Settings) -> Result<Ops, ConfigError> {
    let key = "ops.listen";
    let nowhere = || from.fault(key, "must not be empty: metrics and health checks need an address");
    Ok(Ops { listen: from.address(key)?.ok_or_else(nowhere)? })
}

fn shutdown(from: &Settings, request_timeout: Duration) -> Result<Shutdown, ConfigError> {
    let key = "shutdown.drain";
    let drain = from.duration(key, SECOND..=10 * MINUTE)?;
    let least = request_timeout + DRAIN_MARGIN;
    if drain > least {
        return Ok(Shutdown { drain });
    }
    let problem = format!(
        "must be more than {least:?} (wechat.request_timeout + {DRAIN_MARGIN:?}), is {drain:?}: \
         otherwise an attempt made just before a stop could not be settled"
    );
    Err(from.fault(key, problem))
}

fn retention(from: &Settings) -> Result<Retention, ConfigError> {
    // Below a day, dead letters could be deleted before an operator has seen the outcome of their replay.
    let dead_letters = match from.text("retention.dead_letters")? {
        "" => None,
        _ => Some(from.duration("retention.dead_letters", DAY..=3650 * DAY)?),
    };
    Ok(Retention { dead_letters, deliveries: ledger_retention(from)? })
}

/// Never below the time that an event may still be sent: its second copy, still on its way, would be a new event.
fn ledger_retention(from: &Settings) -> Result<Option<Duration>, ConfigError> {
    const KEY: &str = "retention.deliveries";
    if from.text(KEY)?.is_empty() {
        return Ok(None);
    }
    let keep = from.duration(KEY, DAY..=3650 * DAY)?;
    let default_ttl = from.duration("delivery.default_ttl", MINUTE..=365 * DAY)?;
    if keep < default_ttl {
        let problem = format!("must be at least delivery.default_ttl ({default_ttl:?})");
        return Err(from.fault(KEY, problem));
    }
    Ok(Some(keep))
}

fn log(from: &Settings) -> Result<Log, ConfigError> {
    Ok(Log {
        format: from.parsed("log.format", "`auto`, `text` or `json`", log_format)?,
        level: from.text("log.level")?.to_owned(),
    })
}

fn prefix(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let fits = (1..=MAX_PREFIX_BYTES).contains(&text.len()) && text.bytes().all(plain);
    fits.then(|| text.to_owned())
}

/// Without a trailing slash, so that paths can be appended.
fn api_base(text: &str) -> Option<String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let plain = !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['?', '#', '@', ' ']);
    plain.then(|| text.trim_end_matches('/').to_owned())
}

fn log_format(word: &str) -> Option<LogFormat> {
    match word {
        "auto" => Some(LogFormat::Auto),
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

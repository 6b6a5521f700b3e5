//! Stands in for `Config::load` until that lands: defaults, `DATABASE_URL` and `AMQP_URL`.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::config::{
    Amqp, Config, Database, Delivery, Http, Log, LogFormat, Ops, Retry, Security, Shutdown, WeChat,
};
use crate::domain::ladder::Ladder;
use crate::domain::protocol::OnUnknown;

/// The configuration of this process.
pub fn load(_file: Option<&Path>) -> Result<Config> {
    let variable = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let seconds = Duration::from_secs;
    Ok(Config {
        amqp: Amqp {
            url: variable("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f").into(),
            prefix: variable("WECHAT_NOTIFIER_AMQP__PREFIX", "wechat"),
            prefetch: 400,
            max_body_bytes: 256 * 1024,
            ca_file: None,
        },
        database: Database {
            url: variable("DATABASE_URL", "postgres://localhost/wechat_notifier").into(),
            migrate_on_start: true,
            pool_size: 4,
            ca_file: None,
        },
        wechat: WeChat {
            api_base: variable("WECHAT_NOTIFIER_WECHAT__API_BASE", "https://api.weixin.qq.com"),
            request_timeout: seconds(10),
        },
        delivery: Delivery {
            concurrency: 256,
            on_unknown: OnUnknown::Resend,
            default_ttl: seconds(72 * 60 * 60),
            lease_margin: seconds(10),
            takeover_grace: seconds(30),
            max_hold: seconds(30),
        },
        retry: Retry { delays: Ladder::new([10, 60, 300, 1_800, 7_200].map(seconds).to_vec())? },
        http: Http { listen: None },
        ops: Ops { listen: ([127, 0, 0, 1], 9180).into() },
        shutdown: Shutdown { drain: seconds(25) },
        security: Security { master_key_file: None },
        log: Log { format: LogFormat::Auto, level: "info".into() },
    })
}

//! The loader as a user meets it: a file's text, some variables, and what comes of them.

use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::settings::Settings;
use super::*;
use crate::domain::protocol::OnUnknown;

/// The configuration from a file's text and some variables, or the fault as it is shown.
fn load(file: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let build = || {
        let mut settings = Settings::defaults(DEFAULTS)?;
        settings.lay_text(file, Path::new("wechat-notifier.toml"))?;
        settings.lay_environment(variables.iter().map(|(name, text)| ((*name).into(), (*text).into())))?;
        build::config(&settings)
    };
    build().map_err(|fault: ConfigError| fault.to_string())
}

fn fault(file: &str) -> String {
    load(file, &[]).expect_err("refused")
}

#[test]
fn the_shipped_example_is_the_default() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.amqp.url.expose_secret(), "amqp://guest:guest@127.0.0.1:5672/%2f");
    assert_eq!((config.amqp.prefix.as_str(), config.amqp.prefetch), ("wechat", 800));
    assert_eq!(config.amqp.max_body_bytes, 256 * 1024);
    assert_eq!(config.amqp.ca_file, None);
    assert!(config.database.migrate_on_start);
    assert_eq!(config.wechat.api_base, "https://api.weixin.qq.com");
    assert_eq!(config.wechat.request_timeout, Duration::from_secs(10));
    assert_eq!((config.delivery.concurrency, config.delivery.on_unknown), (256, OnUnknown::Resend));
    assert_eq!(config.delivery.default_ttl, Duration::from_secs(72 * 3600));
    assert_eq!(config.delivery.lease_margin, Duration::from_secs(10));
    assert_eq!(config.delivery.takeover_grace, Duration::from_secs(30));
    assert_eq!(config.delivery.max_hold, Duration::from_secs(30));
    let minutes = |list: &[u64]| list.iter().map(|m| Duration::from_secs(m * 60)).collect::<Vec<_>>();
    assert_eq!(config.retry.delays.delays()[0], Duration::from_secs(10));
    assert_eq!(config.retry.delays.delays()[1..], minutes(&[1, 5, 30, 120]));
    assert_eq!(config.http.listen, None);
    assert_eq!(config.ops.listen, ([127, 0, 0, 1], 9180).into());
    assert_eq!(config.shutdown.drain, Duration::from_secs(25));
    assert_eq!(config.security.master_key_file, None);
    assert_eq!((config.retention.dead_letters, config.retention.deliveries), (None, None));
    assert_eq!((config.log.format, config.log.level.as_str()), (LogFormat::Auto, "info"));
}

#[test]
fn the_manual_has_a_row_for_every_key_with_its_default_and_no_other() {
    let manual = include_str!("../../docs/CONFIGURATION.md");
    let mut section = "";
    let mut keys = 0;
    for line in DEFAULTS.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = line.split_once(" = ") {
            let row = format!("| `{section}.{key}` | `{value}` |");
            assert!(manual.contains(&row), "docs/CONFIGURATION.md has no row `{row}`");
            keys += 1;
        }
    }
    assert_eq!(keys, Settings::defaults(DEFAULTS).unwrap().keys().count());
    assert_eq!(keys, manual.lines().filter(|line| line.starts_with("| `")).count());
}

#[test]
fn the_environment_wins_over_the_file_and_own_names_over_well_known_ones() {
    let file =
        "[amqp]\nurl = \"amqp://file\"\nprefetch = 7\nmax_body = 4096\n[database]\nurl = \"postgres://file\"";
    let variables = [
        ("WECHAT_NOTIFIER_AMQP__URL", "amqp://own"),
        ("AMQP_URL", "amqp://well-known"),
        ("DATABASE_URL", "postgres://well-known"),
        ("WECHAT_NOTIFIER_AMQP__MAX_BODY", "8KiB"),
        ("WECHAT_NOTIFIER_RETRY__DELAYS", r#"["20ms", "1m"]"#),
        ("WECHAT_NOTIFIER_DATABASE__MIGRATE_ON_START", "false"),
    ];
    let config = load(file, &variables).unwrap();
    assert_eq!(config.amqp.url.expose_secret(), "amqp://own");
    assert_eq!(config.database.url.expose_secret(), "postgres://well-known");
    assert_eq!((config.amqp.prefetch, config.amqp.max_body_bytes), (7, 8192));
    assert_eq!(config.retry.delays.first(), Duration::from_millis(20));
    assert!(!config.database.migrate_on_start);
}

#[test]
fn a_key_nobody_knows_is_refused_with_a_suggestion() {
    assert_eq!(
        fault("# my own\n[amqp]\nprefech = 3"),
        "unknown key `amqp.prefech` in wechat-notifier.toml:3; did you mean `amqp.prefetch`?"
    );
    assert_eq!(
        fault("prefetch = 3"),
        "unknown key `prefetch` in wechat-notifier.toml:1; did you mean `amqp.prefetch`?"
    );
    assert_eq!(
        fault("[smtp]\nport = 3"),
        "unknown key `smtp.port` in wechat-notifier.toml:2; docs/CONFIGURATION.md lists all of them"
    );
}

#[test]
fn the_ledger_is_kept_for_as_long_as_an_event_may_be_sent() {
    let kept = |file| load(file, &[]).unwrap().retention.deliveries;
    assert_eq!(kept("[retention]\ndeliveries = \"90d\""), Some(Duration::from_secs(90 * 24 * 3600)));
    let refused = fault("[delivery]\ndefault_ttl = \"10d\"\n[retention]\ndeliveries = \"9d\"");
    assert!(refused.contains("must be at least delivery.default_ttl"), "{refused}");
}

#[test]
fn a_variable_nobody_knows_is_refused_unless_it_is_not_meant_for_us() {
    let variable = |name| load("", &[(name, "1")]).map(|_| ());
    for slip in ["WECHAT_NOTIFIER_AMQP__PREFECH", "WECHAT_NOTIFIER_AMQP_PREFETCH"] {
        let wanted =
            format!("unknown environment variable {slip}; did you mean `WECHAT_NOTIFIER_AMQP__PREFETCH`?");
        assert_eq!(variable(slip), Err(wanted));
    }
    for foreign in ["PATH", "WECHAT_NOTIFIER_SERVICE_HOST", "WECHAT_NOTIFIER_APP_SECRET"] {
        assert_eq!(variable(foreign), Ok(()));
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_place_and_what_is_wanted() {
    let cases = [
        (
            "[amqp]\nprefetch = 0",
            "`amqp.prefetch` in wechat-notifier.toml:2 must be a whole number from 1 to 65535, is 0",
        ),
        (
            "[amqp]\nprefetch = \"x\"",
            "`amqp.prefetch` in wechat-notifier.toml:2 must be a whole number from 1 to 65535, is `x`",
        ),
        (
            "[ops]\nlisten = \"9180\"",
            "`ops.listen` in wechat-notifier.toml:2 must be an IP address and a port such as \"127.0.0.1:9180\", is `9180`",
        ),
        (
            "[wechat]\nrequest_timeout = \"10\"",
            "`wechat.request_timeout` in wechat-notifier.toml:2 must be a duration such as \"250ms\", \"10s\", \"5m\" or \"2h\", is `10`",
        ),
        (
            "[wechat]\nrequest_timeout = \"2m\"",
            "`wechat.request_timeout` in wechat-notifier.toml:2 must be between 100ms and 60s, is 120s",
        ),
        (
            "[retry]\ndelays = [\"1m\", \"10s\"]",
            "`retry.delays` in wechat-notifier.toml:2 must increase: 60s is followed by 10s",
        ),
        (
            "[delivery]\non_unknown = \"hope\"",
            "`delivery.on_unknown` in wechat-notifier.toml:2 must be `resend` or `park`, is `hope`",
        ),
        (
            "[database]\nmigrate_on_start = \"yes\"",
            "`database.migrate_on_start` in wechat-notifier.toml:2 must be true or false, is `yes`",
        ),
        ("[amqp\n", "wechat-notifier.toml:1 is not TOML: unclosed table, expected `]`"),
    ];
    for (file, wanted) in cases {
        assert_eq!(fault(file), wanted, "{file}");
    }
}

#[test]
fn a_drain_that_cannot_outlast_a_request_is_refused() {
    let fault = fault("[wechat]\nrequest_timeout = \"20s\"");
    assert!(fault.starts_with("`shutdown.drain` in the built-in defaults must be more than 25s"), "{fault}");
    load("[wechat]\nrequest_timeout = \"20s\"\n[shutdown]\ndrain = \"26s\"", &[]).unwrap();
}

#[test]
fn an_empty_listener_is_off() {
    assert_eq!(load("[http]\nlisten = \"\"", &[]).unwrap().http.listen, None);
    let chosen = load("[http]\nlisten = \"127.0.0.1:8080\"", &[]).unwrap();
    assert_eq!(chosen.http.listen, Some(([127, 0, 0, 1], 8080).into()));
    assert!(fault("[ops]\nlisten = \"\"").contains("must not be empty"));
}

#[test]
fn a_listener_that_has_nothing_to_serve_is_warned_of() {
    let warned =
        |text: &str| load(text, &[]).unwrap().warnings().iter().any(|line| line.contains("http.listen"));
    assert!(warned("[http]\nlisten = \"127.0.0.1:8080\""));
    assert!(!warned(""));
}

#[test]
fn a_secret_can_come_from_a_file() {
    let path = std::env::temp_dir().join(format!("wechat-notifier-secret-{}", std::process::id()));
    std::fs::write(&path, "amqp://from-file\n").unwrap();
    let name = path.to_str().unwrap();

    let from_variable = load("[amqp]\nurl = \"amqp://plain\"", &[("WECHAT_NOTIFIER_AMQP__URL_FILE", name)]);
    let plain_wins = load(&format!("[amqp]\nurl_file = \"{name}\""), &[("AMQP_URL", "amqp://plain")]);
    let both = load(&format!("[amqp]\nurl = \"amqp://plain\"\nurl_file = \"{name}\""), &[]);
    std::fs::remove_file(&path).unwrap();

    assert_eq!(from_variable.unwrap().amqp.url.expose_secret(), "amqp://from-file");
    assert_eq!(plain_wins.unwrap().amqp.url.expose_secret(), "amqp://plain");
    let wanted =
        "`amqp.url` in wechat-notifier.toml:2 is set together with `amqp.url_file`: keep one of them";
    assert_eq!(both.err().as_deref(), Some(wanted));
}

#[test]
fn a_named_file_must_exist() {
    let missing = Path::new("/nowhere/wechat-notifier.toml");
    let fault = Config::load(Some(missing), std::iter::empty()).unwrap_err();
    assert!(fault.to_string().starts_with("cannot read the configuration file /nowhere/"), "{fault}");
}

#[test]
fn neither_debug_output_nor_a_fault_shows_a_password() {
    let file = "[amqp]\nurl = \"amqp://u:hunter2@h\"\n[database]\nurl = \"postgres://u:hunter2@h\"";
    assert!(!format!("{:?}", load(file, &[]).unwrap()).contains("hunter2"));
    assert!(!fault("[amqp]\nurl = \"amqp://u:hunter2@h").contains("hunter2"));
    assert!(!fault("[wechat]\napi_base = 3\n[amqp]\nurl = [\"amqp://u:hunter2@h\"]").contains("hunter2"));
}

#[test]
fn what_should_not_stay_so_is_warned_about() {
    let all = "[wechat]\napi_base = \"http://sim\"\n[amqp]\nurl = \"amqp://mq\"\n[database]\nurl = \"postgres://db\"";
    let warnings = load(all, &[]).unwrap().warnings();
    for key in ["wechat.api_base", "amqp.url", "database.url", "security.master_key_file"] {
        assert_eq!(warnings.iter().filter(|warning| warning.starts_with(key)).count(), 1, "{key}");
    }
    assert_eq!(load("", &[]).unwrap().warnings().len(), 1, "only the master key is missing by default");
}

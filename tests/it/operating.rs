//! What operators see: probes, metrics, logs.

use serde_json::{Value, json};

use crate::support::{APP, Daemon, World, event, eventually};

/// Port 9 ("discard") is nobody's.
const NO_BROKER: (&str, &str) = ("AMQP__URL", "amqp://guest:hush-amqp@127.0.0.1:9/%2f");
const NO_DATABASE: (&str, &str) = ("DATABASE__URL", "postgres://nobody:hush-pg@127.0.0.1:9/nowhere");

#[tokio::test]
async fn a_daemon_that_lacks_something_lives_and_says_what_it_lacks() {
    let world = World::new().await;

    let mut daemon = world.spawn(&[NO_BROKER]);
    let only_broker =
        |missing: &Value| missing["broker_consuming"] != "not started yet" && missing["database"].is_null();
    let missing = missing_when(&mut daemon, only_broker).await;
    assert_eq!(keys(&missing), ["broker_consuming", "broker_publishing", "consumer"]);
    for part in ["broker_consuming", "broker_publishing"] {
        let why = missing[part].as_str().unwrap();
        assert!(why.contains("connect") && !why.contains("hush"), "{why}");
    }

    let mut daemon = world.spawn(&[NO_DATABASE, ("DATABASE__MIGRATE_ON_START", "false")]);
    let only_database =
        |missing: &Value| missing["database"] != "not started yet" && keys(missing).len() == 1;
    let missing = missing_when(&mut daemon, only_database).await;
    assert!(!missing["database"].to_string().contains("hush"), "{missing}");
    assert_eq!(daemon.page("/livez").await, (200, r#"{"alive":true,"stalled":[]}"#.to_owned()));
}

#[tokio::test]
async fn a_database_without_our_tables_is_not_ready_until_somebody_migrates_it() {
    let world = World::new().await;
    let empty = format!("{}e", world.name);
    world.db.execute(&format!("CREATE SCHEMA {empty}"), &[]).await.unwrap();
    let url = world.database_url.replace(&world.name, &empty);
    let elsewhere = [("DATABASE__URL", url.as_str()), ("DATABASE__MIGRATE_ON_START", "false")];
    let mut daemon = world.spawn(&elsewhere);
    let only_database =
        |missing: &Value| missing["database"] != "not started yet" && keys(missing).len() == 1;
    let missing = missing_when(&mut daemon, only_database).await;
    assert_eq!(missing["database"], "migration 1 is missing: run `wechat-notifier migrate`");

    let migrated = world.command_with(&["migrate"], &elsewhere).await;
    assert!(migrated.status.success());
    daemon.until_ready().await;
    assert_eq!(daemon.page("/readyz").await, (200, r#"{"missing":{},"ready":true}"#.to_owned()));
}

#[tokio::test]
async fn every_kind_of_end_shows_in_the_metrics() {
    let world = World::new().await;
    let daemon = one_of_each_kind(&world, &[]).await;

    let series = [
        (r#"events_total{result="planned"}"#, 6.0),
        (r#"events_total{result="duplicate"}"#, 1.0),
        (r#"events_total{result="dead"}"#, 2.0),
        (r#"deliveries_total{app_id="APP",outcome="sent",reason=""}"#, 3.0),
        (r#"deliveries_total{app_id="APP",outcome="retry",reason=""}"#, 1.0),
        (r#"deliveries_total{app_id="APP",outcome="unknown",reason=""}"#, 1.0),
        (r#"deliveries_total{app_id="APP",outcome="skipped",reason="rejected"}"#, 1.0),
        (r#"deliveries_total{app_id="APP",outcome="skipped",reason="no_recipients"}"#, 1.0),
        (r#"deliveries_total{app_id="APP",outcome="dead",reason="content"}"#, 1.0),
        (r#"attempts_total{app_id="APP",class="sent",errcode="0"}"#, 3.0),
        (r#"attempts_total{app_id="APP",class="transient",errcode="-1"}"#, 4.0),
        (r#"attempts_total{app_id="APP",class="unknown",errcode="none"}"#, 1.0),
        (r#"attempts_total{app_id="APP",class="recipient",errcode="43101"}"#, 1.0),
        (r#"attempts_total{app_id="APP",class="content",errcode="47003"}"#, 1.0),
        (r#"unknowns_total{app_id="APP"}"#, 1.0),
        (r#"token_refreshes_total{app_id="APP",result="fetched"}"#, 1.0),
        ("end_to_end_seconds_count", 3.0),
        ("attempt_seconds_count", 10.0),
        ("in_flight", 0.0),
        (r#"dead_letters_total{app_id="APP",reason="content"}"#, 1.0),
        (r#"dead_letters_total{app_id="none",reason="malformed"}"#, 1.0),
    ];
    for (series, expected) in series {
        let series = format!("wechat_notifier_{}", series.replace("APP", APP));
        assert_eq!(daemon.metric(&series).await, expected, "{series}");
    }
    let token = format!(r#"wechat_notifier_token_expires_seconds{{app_id="{APP}"}}"#);
    assert!((7_000.0..=7_200.0).contains(&daemon.metric(&token).await));
    queues_and_build_are_named(&world, &daemon).await;
}

async fn queues_and_build_are_named(world: &World, daemon: &Daemon) {
    for queue in ["events", "deliveries", "dead", "retry.100ms"] {
        let series = format!(r#"wechat_notifier_queue_depth{{queue="{}.{queue}"}} 0"#, world.name);
        // Depths are looked at every few seconds: the last look may have met what was still on its way.
        let shown = async || daemon.page("/metrics").await.1.lines().any(|line| line == series).then_some(());
        eventually(&series, shown).await;
    }
    let (status, page) = daemon.page("/metrics").await;
    assert_eq!(status, 200);
    let build = format!(r#"version="{}"}} 1"#, env!("CARGO_PKG_VERSION"));
    assert!(
        page.lines().any(|line| line.starts_with("wechat_notifier_build_info{") && line.ends_with(&build))
    );
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let base =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(page.contains(&format!("# HELP {base} ")), "{name} has no help text");
    }
}

#[tokio::test]
async fn logs_are_json_and_hold_nothing_that_is_not_for_everybody() {
    let world = World::new().await;
    let sql = "UPDATE t_wechat_app SET app_secret = $1";
    world.db.execute(sql, &[&APP_SECRET]).await.unwrap();
    world.wechat.register(APP, APP_SECRET).await;
    let daemon = one_of_each_kind(&world, &[("LOG__LEVEL", "debug")]).await;
    world.wechat.tell("tokens/invalidate", json!({ "appid": APP })).await;
    world.publish(event("token").to(&["zhangsan"])).await;
    world.ended("token").await;

    let log = daemon.log();
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert!(entry["message"].is_string() && entry["level"].is_string(), "{line}");
    }
    for word in ["malformed", "unknown_app", "WeChat rejects the access token"] {
        assert!(log.contains(word), "nothing was logged of {word}: this shows nothing");
    }
    let row = world.db.query_one("SELECT access_token FROM t_wechat_app", &[]).await.unwrap();
    let token: String = row.get(0);
    let zhang = openid("zhang");
    let secrets =
        [APP_SECRET, &token, SESSION_KEY, &zhang, "¥100.00", "pages/pay", "guest:guest", "not an event"];
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} stands in the log:\n{log}");
    }
}

#[tokio::test]
async fn why_tells_each_of_these_stories_without_naming_anybody_whole() {
    let world = World::new().await;
    let _daemon = one_of_each_kind(&world, &[]).await;
    let stories = [
        ("zhang", vec!["1 sent", "…"]),
        ("hiccup", vec!["1 sent", "5 attempts"]),
        ("hang", vec!["1 sent", "unknown"]),
        ("refuser", vec!["1 skipped", "43101", "rejected"]),
        ("content", vec!["1 dead", "47003", "dead letter"]),
        ("nobody", vec!["1 skipped", "no_recipients"]),
        ("unknown", vec!["given up before recipients were planned", "unknown_app"]),
    ];
    for (event_id, words) in stories {
        let told = world.cli(&["deliveries", "why", event_id]).await;
        let missing: Vec<_> = words.iter().filter(|word| !told.contains(**word)).collect();
        assert!(missing.is_empty(), "{missing:?} is not in: {told}");
        assert!(!told.contains(&openid(event_id)), "an openid stands whole in: {told}");
    }
}

/// A dashboard must not promise two hours of a token that WeChat does not take.
#[tokio::test]
async fn a_rejected_token_has_no_time_left() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let daemon = world.daemon().await;
    world.publish(event("fine").to(&["zhangsan"])).await;
    world.ended("fine").await;
    let left = format!(r#"wechat_notifier_token_expires_seconds{{app_id="{APP}"}}"#);
    assert!(daemon.metric(&left).await > 0.0);

    world.wechat.fault(json!({ "match": { "path": "send" }, "action": { "errcode": 40001 } })).await;
    world.publish(event("refused").to(&["zhangsan"])).await;
    let paused = format!(r#"wechat_notifier_app_paused{{app_id="{APP}",reason="token_rejected"}}"#);
    eventually("the app to be paused", async || (daemon.metric(&paused).await == 1.0).then_some(())).await;
    assert!(daemon.metric(&left).await <= 0.0);

    world.wechat.heal().await;
    assert_eq!(world.ended("refused").await.end(), "sent");
    eventually("a token with time left", async || (daemon.metric(&left).await > 0.0).then_some(())).await;
}

const APP_SECRET: &str = "5ecre7-0f-7he-app-5ecre7-0f-7he-";
const SESSION_KEY: &str = "tiihtNczf5v6AKRyjwEUhQ==";

/// As long as real ones.
fn openid(name: &str) -> String {
    format!("oABCDEFGHIJKLMNOPQRST-{name}")
}

/// Lets a daemon meet one event of each kind, to its end.
async fn one_of_each_kind(world: &World, settings: &[(&str, &str)]) -> Daemon {
    for name in ["zhang", "hiccup", "hang", "refuser", "content"] {
        world.user(&format!("{name}san"), &openid(name)).await;
    }
    world.db.execute("UPDATE t_wechat_user SET session_key = $1", &[&SESSION_KEY]).await.unwrap();
    for (name, times, action) in [
        ("hiccup", 4, json!({ "errcode": -1 })),
        ("hang", 1, json!("hang")),
        ("refuser", 1, json!({ "errcode": 43101 })),
        ("content", 1, json!({ "errcode": 47003 })),
    ] {
        let selector = json!({ "path": "send", "openid": openid(name) });
        world.wechat.fault(json!({ "match": selector, "times": times, "action": action })).await;
    }
    let daemon = world.daemon_with(settings).await;
    for name in ["zhang", "hiccup", "hang", "refuser", "content"] {
        world.publish(event(name).to(&[&format!("{name}san")])).await;
        world.ended(name).await;
    }
    world.publish_all([event("nobody"), event("zhang").to(&["zhangsan"])]).await;
    world.publish_raw([b"not an event".to_vec()], &Default::default()).await;
    world.publish(event("unknown").with("app_id", "wx-unknown")).await;
    world.dead_letters_when(3).await;
    let all_in = r#"wechat_notifier_events_total{result="duplicate"}"#;
    eventually(all_in, async || (daemon.metric(all_in).await == 1.0).then_some(())).await;
    world.all_ended(6).await;
    daemon
}

/// What `/readyz` says is missing, once it is as wanted.
async fn missing_when(daemon: &mut Daemon, wanted: impl Fn(&Value) -> bool) -> Value {
    daemon.ops().await;
    eventually("/readyz to say what is missing", async || {
        let (status, page) = daemon.page("/readyz").await;
        let answer: Value = serde_json::from_str(&page).unwrap();
        assert_eq!((status, &answer["ready"]), (503, &json!(false)), "{answer}");
        Some(answer["missing"].clone()).filter(&wanted)
    })
    .await
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

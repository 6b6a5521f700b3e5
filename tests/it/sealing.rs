//! Secrets at rest: sealed under a master key, read by whoever has it.

use std::path::PathBuf;

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use wechat_notifier::sealing::Sealer;

use crate::support::{APP, World, event, eventually};

const OTHER: &str = "wx-other";

/// A master key in a file of its own; gone with the test.
struct KeyFile(PathBuf);

impl KeyFile {
    fn new(world: &World, digits: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{}-{digits}.key", world.name));
        std::fs::write(&path, format!("{}\n", digits.repeat(32))).unwrap();
        Self(path)
    }

    /// The setting that names it.
    fn setting(&self) -> (&str, &str) {
        ("SECURITY__MASTER_KEY_FILE", self.0.to_str().unwrap())
    }

    /// Opens what stands in a column of an app's row.
    fn opened(&self, column: &str, app_id: &str, stored: &str) -> String {
        assert!(stored.starts_with("sealed:v1:"), "{column} of {app_id} stands plain");
        let sealer = Sealer::from_file(Some(&self.0)).unwrap();
        let secret = sealer.read(&format!("t_wechat_app/{column}/{app_id}"), stored.to_owned());
        secret.unwrap().expose_secret().to_owned()
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl World {
    /// Runs a command with this key; what it printed, whatever its exit code.
    async fn with_key(&self, key: &KeyFile, line: &str) -> String {
        let words: Vec<_> = line.split_whitespace().collect();
        let secret = ("APP_SECRET", "secret");
        let output = self.command_with(&words, &[key.setting(), secret]).await;
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
    }

    /// What stands in a column of an app's row.
    async fn stored(&self, column: &str, app_id: &str) -> String {
        let sql = format!("SELECT coalesce({column}, '') FROM t_wechat_app WHERE app_id = $1");
        self.db.query_one(&sql, &[&app_id]).await.unwrap().get(0)
    }

    /// A second app with one willing user, registered by an operator who has the key.
    async fn sealed_app(&self, key: &KeyFile) {
        self.wechat.register(OTHER, "secret").await;
        self.with_key(key, &format!("app add --app-id {OTHER}")).await;
        let consent = json!({"status": "accept", "remaining": null});
        self.user_of(OTHER, "other", "o-other", &consent).await;
    }
}

fn of_sealed_app(event_id: &str) -> crate::support::EventBody {
    event(event_id).with("app_id", OTHER).to(&["other"])
}

#[tokio::test]
async fn with_a_key_an_app_is_stored_sealed_and_sent_through() {
    let world = World::new().await;
    let key = KeyFile::new(&world, "0a");
    world.sealed_app(&key).await;
    assert_eq!(key.opened("app_secret", OTHER, &world.stored("app_secret", OTHER).await), "secret");
    assert!(world.with_key(&key, "app list").await.contains("sealed"));

    let daemon = world.daemon_with(&[key.setting()]).await;
    world.publish(of_sealed_app("e-1")).await;
    assert_eq!(world.ended("e-1").await.end(), "sent");
    let token = key.opened("access_token", OTHER, &world.stored("access_token", OTHER).await);
    for secret in [token.as_str(), &"0a".repeat(32)] {
        assert!(!daemon.log().contains(secret), "{secret} stands in the log");
    }
    world.conserved([]).await;
}

#[tokio::test]
async fn a_sealed_token_is_taken_over_by_the_next_daemon() {
    let world = World::new().await;
    let key = KeyFile::new(&world, "0b");
    world.sealed_app(&key).await;
    let mut first = world.daemon_with(&[key.setting()]).await;
    world.publish(of_sealed_app("e-1")).await;
    world.ended("e-1").await;
    let stored = world.stored("access_token", OTHER).await;
    first.terminate();
    assert_eq!(first.exit().await, Some(0));

    // No token can be had any more: the one that is stored must do.
    world.wechat.fault(json!({"match": {"path": "stable_token"}, "action": {"errcode": -1}})).await;
    let second = world.daemon_with(&[key.setting()]).await;
    world.publish(of_sealed_app("e-2")).await;
    assert_eq!(world.ended("e-2").await.end(), "sent");
    let adopted = format!(r#"wechat_notifier_token_refreshes_total{{app_id="{OTHER}",result="adopted"}}"#);
    assert_eq!(second.metric(&adopted).await, 1.0);
    assert_eq!(world.stored("access_token", OTHER).await, stored);
    world.conserved([]).await;
}

#[tokio::test]
async fn a_daemon_without_the_key_pauses_that_app_alone_until_it_has_it() {
    let world = World::new().await;
    let key = KeyFile::new(&world, "0c");
    world.sealed_app(&key).await;
    world.user("zhangsan", "o-zhang").await;
    let mut without = world.daemon().await;

    world.publish_all([of_sealed_app("waits"), event("flows").to(&["zhangsan"])]).await;
    assert_eq!(world.ended("flows").await.end(), "sent");
    without.says(&[OTHER, "app_secret", "security.master_key_file is not set"]).await;
    let paused = format!(r#"wechat_notifier_app_paused{{app_id="{OTHER}",reason="secret_sealed"}}"#);
    eventually("the app to be paused", async || (without.metric(&paused).await == 1.0).then_some(())).await;
    without.terminate();
    assert_eq!(without.exit().await, Some(0));

    let wrong = KeyFile::new(&world, "0d");
    let told = world.with_key(&wrong, "check").await;
    assert!(told.contains("another key"), "{told}");
    assert_eq!(world.wechat.got("o-other").await, 0);

    let _with = world.daemon_with(&[key.setting()]).await;
    let row = world.ended("waits").await;
    assert_eq!((row.end().as_str(), row.attempts), ("sent", 1), "the wait was charged");
    world.conserved([]).await;
}

#[tokio::test]
async fn what_stands_plain_is_sealed_on_demand_and_goes_on_working() {
    let world = World::new().await;
    let key = KeyFile::new(&world, "0e");
    world.user("zhangsan", "o-zhang").await;
    world.db.execute("UPDATE t_wechat_app SET encoding_aes_key = 'aes'", &[]).await.unwrap();
    let daemon = world.daemon_with(&[key.setting()]).await;
    world.publish(event("before").to(&["zhangsan"])).await;
    world.ended("before").await;
    let findings: Value = serde_json::from_str(&check(&world, &key).await).unwrap();
    let said = findings.as_array().unwrap().iter().find(|finding| finding["what"] == "secrets").unwrap();
    assert_eq!(said["state"], "warning", "{said}");

    // The token was stored by a daemon with the key: sealed already.
    let seal = format!("app seal --app-id {APP}");
    assert_eq!(world.with_key(&key, &seal).await, "sealed 2 secrets\n");
    assert_eq!(world.with_key(&key, "app seal --all").await, "sealed 0 secrets\n");
    assert_eq!(key.opened("app_secret", APP, &world.stored("app_secret", APP).await), "secret");
    assert_eq!(key.opened("encoding_aes_key", APP, &world.stored("encoding_aes_key", APP).await), "aes");
    assert!(check(&world, &key).await.contains("all sealed"));
    assert!(!world.command(&["app", "seal", "--all"]).await.status.success(), "sealed without a key");

    world.publish(event("after").to(&["zhangsan"])).await;
    assert_eq!(world.ended("after").await.end(), "sent");
    assert!(!daemon.log().contains("paused"));
    world.conserved([]).await;
}

async fn check(world: &World, key: &KeyFile) -> String {
    let output = world.command_with(&["check", "--json"], &[key.setting()]).await;
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_file_that_holds_no_key_stops_the_start() {
    let world = World::new().await;
    let key = KeyFile::new(&world, "0f");
    std::fs::write(&key.0, "0f0f").unwrap();
    let mut daemon = world.spawn(&[key.setting()]);
    assert_eq!(daemon.exit().await, Some(1));
    assert!(daemon.log().contains("security.master_key_file") && daemon.log().contains(ADVICE));
}

/// What the refusal tells an operator to do.
const ADVICE: &str = "openssl rand -hex 32";

//! Broker and database over TLS, with certificates of an authority of one's own.

use serde_json::Value;

use crate::support::{Daemon, Servers, World, event, eventually};

#[tokio::test]
async fn an_event_is_sent_over_tls_on_both_sides_and_a_stranger_is_refused() {
    let servers = Servers::start_tls("tls");
    let world = World::on(&servers.amqp_url, &servers.database_url).await;
    world.user("zhangsan", "o-zhang").await;
    let ours = servers.told("WN_TEST_CA_FILE");

    let daemon = spawn(&world, &servers, &ours, &ours);
    daemon.until_ready().await;
    world.publish(event("sealed").to(&["zhangsan"])).await;
    assert_eq!(world.ended("sealed").await.end(), "sent");
    assert_eq!(plain_connections(&world).await, 0, "the daemon speaks to PostgreSQL in the open");
    world.conserved(["sealed".to_owned()]).await;
    drop(daemon);

    let stranger = servers.told("WN_TEST_STRANGER_CA_FILE");
    refuses(spawn(&world, &servers, &stranger, &ours), &["broker_consuming", "broker_publishing"]).await;
    refuses(spawn(&world, &servers, &ours, &stranger), &["database"]).await;
}

#[tokio::test]
async fn a_ca_file_that_is_none_is_named_at_the_start() {
    let world = World::new().await;
    for (key, url) in
        [("AMQP", "amqps://127.0.0.1:9/%2f"), ("DATABASE", "postgres://127.0.0.1:9/x?sslmode=require")]
    {
        let (url_key, file_key) = (format!("{key}__URL"), format!("{key}__CA_FILE"));
        let mut daemon = world.spawn(&[(&url_key, url), (&file_key, "no/such/authority.pem")]);
        assert_eq!(daemon.exit().await, Some(1));
        let named = format!("{}.ca_file no/such/authority.pem", key.to_lowercase());
        assert!(daemon.log().contains(&named), "{}", daemon.log());
    }
}

/// A daemon that speaks TLS on both sides, and whom it believes on each.
fn spawn(world: &World, servers: &Servers, broker_ca: &str, database_ca: &str) -> Daemon {
    let database_url = format!("{}&sslmode=require", world.database_url);
    world.spawn(&[
        ("AMQP__URL", &servers.told("WN_TEST_AMQPS_URL")),
        ("AMQP__CA_FILE", broker_ca),
        ("DATABASE__URL", &database_url),
        ("DATABASE__CA_FILE", database_ca),
        // Otherwise the start waits for the database.
        ("DATABASE__MIGRATE_ON_START", "false"),
    ])
}

/// Waits for `/readyz` to say that these parts are missing for want of trust.
async fn refuses(mut daemon: Daemon, parts: &[&str]) {
    daemon.ops().await;
    eventually(&format!("{parts:?} to be refused, and the certificate blamed"), async || {
        let (_, page) = daemon.page("/readyz").await;
        let answer: Value = serde_json::from_str(&page).unwrap();
        let blamed =
            |part: &&str| answer["missing"][*part].as_str().is_some_and(|why| why.contains("certificate"));
        parts.iter().all(blamed).then_some(())
    })
    .await;
    daemon.terminate();
    assert_eq!(daemon.exit().await, Some(0));
}

async fn plain_connections(world: &World) -> i64 {
    let sql = "SELECT count(*) FILTER (WHERE NOT ssl), count(*)
                 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'wechat-notifier'";
    let row = world.db.query_one(sql, &[]).await.unwrap();
    assert!(row.get::<_, i64>(1) > 0, "the daemon has no connection: this shows nothing");
    row.get(0)
}

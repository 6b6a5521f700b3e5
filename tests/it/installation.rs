//! What is wrong with the installation is not wrong with the message. Under a steady load the database refuses our work, each
//! time in another way that an installation has: nothing is charged or given up, the operator is told what to do, and work
//! goes on by itself once it is fixed.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Daemon, Exchange, Servers, World, event};

/// The steady load.
const EVENTS_PER_SECOND: u64 = 200;
/// How soon `/readyz` names the cause.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// How soon after the fix everything is delivered. A debug build beside other tests gets the time besides that the backlog
/// takes at the load's own rate.
const DELIVERED_WITHIN: Duration = Duration::from_secs(10);
/// How long each fault lasts once it was seen: ten of the daemon's own looks and more.
const LASTS: Duration = Duration::from_secs(8);

/// A load, and a daemon that works as a role without any right that it does not need.
struct Stage {
    world: World,
    daemon: Daemon,
    load: JoinHandle<Vec<String>>,
    stop: CancellationToken,
    /// As the daemon's role.
    database_url: String,
    // Ends last.
    _servers: Servers,
}

impl Stage {
    async fn set(name: &str) -> Self {
        let servers = Servers::start(name);
        let world = World::on(&servers.amqp_url, &servers.database_url).await;
        world.crowd(500).await;
        let database_url = role(&world).await;
        let settings = [("DATABASE__URL", database_url.as_str()), ("DATABASE__MIGRATE_ON_START", "false")];
        let daemon = world.daemon_with(&settings).await;
        let stop = CancellationToken::new();
        let load = tokio::spawn(publish_steadily(world.exchange(), stop.clone()));
        let stage = Self { world, daemon, load, stop, database_url, _servers: servers };
        stage.world.ends_when("sent", 100).await;
        stage
    }

    /// The fault begins, is seen, lasts, and is fixed; then everything is delivered and nothing is dead. `names` are words of
    /// the cause that `/readyz` must show, the advice among them.
    async fn survives(self, begin: &[&str], names: &[&str], lasts: Duration, fix: &[&str]) {
        let admin = self.world.connect().await;
        let lines_before = self.daemon.log().lines().count();
        for statement in begin {
            admin.batch_execute(statement).await.unwrap();
        }
        let begun = Instant::now();
        self.daemon.not_ready(names[0]).await;
        assert!(begun.elapsed() < SEEN_WITHIN, "seen after {:?}", begun.elapsed());
        let (_, page) = self.daemon.page("/readyz").await;
        assert!(names.iter().all(|name| page.contains(name)), "the cause is not named in {page}");
        self.daemon.says(&["ERROR", "PostgreSQL refuses statements", names[0]]).await;
        let checked = self.world.command_with(&["check"], &[("DATABASE__URL", &self.database_url)]).await;
        let said = String::from_utf8(checked.stdout).unwrap();
        assert_eq!(checked.status.code(), Some(3), "{said}");
        assert!(said.contains("FAILED"), "{said}");
        // Not to wait for something: this is the fault.
        tokio::time::sleep(lasts).await;
        assert_eq!(self.daemon.metric("wechat_notifier_database_up").await, 0.0);
        assert_eq!(self.daemon.metric("wechat_notifier_ready").await, 0.0);
        for statement in fix {
            admin.batch_execute(statement).await.unwrap();
        }
        let fixed = Instant::now();
        self.daemon.until_ready().await;
        self.stop.cancel();
        let ids = self.load.await.unwrap();
        self.world.all_ended(i64::try_from(ids.len()).unwrap()).await;
        let backlog_s = (fixed - begun).as_secs_f64();
        let took = fixed.elapsed().as_secs_f64();
        println!("delivered {took:.1} s after the fix, {} events in all", ids.len());
        assert!(took < DELIVERED_WITHIN.as_secs_f64() + backlog_s, "delivered {took} s after the fix");
        let (lines, seconds) = (self.daemon.log().lines().count() - lines_before, begun.elapsed().as_secs());
        assert!(lines as u64 <= seconds, "{lines} lines in {seconds} s\n{}", self.daemon.log());
        assert_eq!(self.world.ends().await.into_keys().collect::<Vec<_>>(), ["sent"]);
        self.world.finish(self.daemon).await;
        assert_eq!(self.world.dead_letters().await, [""; 0]);
        let unknowns = self.world.conserved(ids).await;
        assert_eq!((unknowns, self.world.wechat.doubles().await), (0, 0));
    }

    fn role(&self) -> String {
        format!("{}_notifier", self.world.name)
    }
}

/// A role with the rights of `deploy/sql/grants.sql`; the URL that logs in as it.
async fn role(world: &World) -> String {
    let (schema, role) = (&world.name, format!("{}_notifier", world.name));
    world
        .db
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'of-the-test'; GRANT USAGE ON SCHEMA {schema} TO {role}"
        ))
        .await
        .unwrap();
    let granted = tokio::process::Command::new("psql")
        .args(["--quiet", &format!("--set=role={role}"), "--file=deploy/sql/grants.sql", &world.database_url])
        .output()
        .await
        .unwrap();
    assert!(granted.status.success(), "{}", String::from_utf8_lossy(&granted.stderr));
    let (scheme, rest) = world.database_url.split_once("://").unwrap();
    let (_owner, server) = rest.split_once('@').unwrap();
    format!("{scheme}://{role}:of-the-test@{server}")
}

/// Publishes to each of 500 users in turn until the stop; answers the ids that the broker confirmed.
async fn publish_steadily(exchange: Exchange, stop: CancellationToken) -> Vec<String> {
    // A tenth of a second's worth.
    const PER_TICK: u64 = EVENTS_PER_SECOND / 10;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let mut ids = Vec::new();
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let mut bodies = Vec::new();
        for _ in 0..PER_TICK {
            let id = format!("steady-{}", ids.len());
            let user = format!("user-{}", ids.len() % 500 + 1);
            bodies.push(serde_json::to_vec(&event(&id).to(&[&user]).0).unwrap());
            ids.push(id);
        }
        assert!(exchange.publish(bodies, &Default::default()).await.unwrap());
    }
    ids
}

#[tokio::test]
async fn a_lost_grant_on_the_ledger_is_waited_for() {
    let stage = Stage::set("grant-ledger").await;
    let begin = format!("REVOKE INSERT ON t_wechat_delivery FROM {}", stage.role());
    let fix = format!("GRANT INSERT ON t_wechat_delivery TO {}", stage.role());
    stage.survives(&[&begin], &["42501", "deploy/sql/grants.sql"], LASTS, &[&fix]).await;
}

#[tokio::test]
async fn a_lost_grant_on_the_users_is_waited_for() {
    let stage = Stage::set("grant-users").await;
    let begin = format!("REVOKE SELECT ON t_wechat_user FROM {}", stage.role());
    let fix = format!("GRANT SELECT ON t_wechat_user TO {}", stage.role());
    stage.survives(&[&begin], &["42501", "t_wechat_user"], LASTS, &[&fix]).await;
}

/// Only an app with a quota asks for it, and its deliveries wait in its lane meanwhile.
#[tokio::test]
async fn a_lost_grant_on_the_quotas_is_waited_for() {
    let stage = Stage::set("grant-quotas").await;
    stage.world.db.execute("UPDATE t_wechat_app SET daily_quota = 1000000", &[]).await.unwrap();
    let begin = format!("REVOKE ALL ON t_wechat_quota FROM {}", stage.role());
    let fix = format!("GRANT SELECT, INSERT, UPDATE ON t_wechat_quota TO {}", stage.role());
    stage.survives(&[&begin], &["42501", "t_wechat_quota"], LASTS, &[&fix]).await;
}

/// What operators want to be paused cannot be read: said and shown, and deliveries go on as they were.
#[tokio::test]
async fn a_lost_grant_on_the_pauses_is_shown() {
    let stage = Stage::set("grant-pauses").await;
    let begin = format!("REVOKE ALL ON t_wechat_pause FROM {}", stage.role());
    let fix = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON t_wechat_pause TO {}", stage.role());
    stage.survives(&[&begin], &["42501", "t_wechat_pause"], LASTS, &[&fix]).await;
}

/// As after a failover onto a standby, for open connections too.
#[tokio::test]
async fn a_database_that_only_reads_is_waited_for() {
    let stage = Stage::set("read-only").await;
    let begin = ["ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"];
    let fix = ["ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"];
    stage.survives(&begin, &["25006", "primary"], LASTS, &fix).await;
}

/// For a minute, as an operator's forgotten transaction does: longer than a lease, and than any statement's time-out.
#[tokio::test]
async fn a_locked_table_is_waited_for() {
    let stage = Stage::set("locked").await;
    let begin = ["BEGIN", "LOCK TABLE t_wechat_delivery"];
    stage.survives(&begin, &["55P03", "pg_locks"], Duration::from_secs(60), &["ROLLBACK"]).await;
}

/// A trigger says what PostgreSQL says when its disk is full; filling the machine's own would harm everybody on it.
#[tokio::test]
async fn a_full_disk_is_waited_for() {
    let stage = Stage::set("disk").await;
    let begin = [
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$",
        "CREATE TRIGGER full_disk BEFORE INSERT ON t_wechat_delivery EXECUTE FUNCTION full_disk()",
    ];
    let fix = ["DROP TRIGGER full_disk ON t_wechat_delivery"];
    stage.survives(&begin, &["53100", "free disk space"], LASTS, &fix).await;
}

#[tokio::test]
async fn a_dropped_column_is_waited_for() {
    let stage = Stage::set("column").await;
    let begin = ["ALTER TABLE t_wechat_delivery DROP COLUMN trace_id"];
    let fix = ["ALTER TABLE t_wechat_delivery ADD COLUMN trace_id text"];
    stage.survives(&begin, &["42703", "wechat-notifier migrate"], LASTS, &fix).await;
}

#[tokio::test]
async fn a_renamed_table_is_waited_for() {
    let stage = Stage::set("table").await;
    let begin = ["ALTER TABLE t_wechat_message_user RENAME TO gone"];
    let fix = ["ALTER TABLE gone RENAME TO t_wechat_message_user"];
    stage.survives(&begin, &["42P01", "t_wechat_message_user"], LASTS, &fix).await;
}

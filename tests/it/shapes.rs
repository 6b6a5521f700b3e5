//! Tables that others made: refused with one complete list, and the SQL that it comes with converts them. What is read of a
//! column of another type is an error by name.

mod variants;

use std::collections::BTreeSet;

use wechat_notifier::db::migrate::MigrateError;
use wechat_notifier::db::registry::{apps, rules};
use wechat_notifier::db::{Error, migrate, shape};
use wechat_notifier::domain::ids::{AppId, CompanyNo, TemplateId};

use crate::scratch::Scratch;
use crate::support::{APP, World, event};
use variants::Variant;

#[tokio::test]
async fn tables_of_five_other_shapes_are_refused_with_a_list_and_work_once_converted() {
    for variant in variants::all() {
        println!("{}", variant.name);
        let world = World::over(&variant.tables).await;
        let script = refused_with_a_complete_list(&world, &variant).await;
        run_refuses_too(&world, &variant).await;
        assert_eq!(tables(&world).await.get("t_wechat_delivery"), None, "something was changed");

        world.db.batch_execute(&script).await.unwrap_or_else(|error| panic!("{error:?} in {script}"));
        everything_works(&world, &variant).await;
    }
}

/// Answers the script that converts.
async fn refused_with_a_complete_list(world: &World, variant: &Variant) -> String {
    let refused = world.command(&["migrate"]).await;
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    let listed: BTreeSet<&str> = told
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_once(": found "))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(listed, variant.differs.iter().copied().collect(), "{}: {told}", variant.name);
    String::from_utf8(refused.stdout).unwrap()
}

async fn run_refuses_too(world: &World, variant: &Variant) {
    for migrates in ["true", "false"] {
        let mut daemon = world.spawn(&[("DATABASE__MIGRATE_ON_START", migrates)]);
        assert_eq!(daemon.exit().await, Some(1), "{}: {}", variant.name, daemon.log());
        let log = daemon.log();
        let said: BTreeSet<String> = log.lines().filter_map(named).collect();
        let differs: BTreeSet<String> = variant.differs.iter().map(ToString::to_string).collect();
        assert_eq!(said, differs, "{}: {log}", variant.name);
    }
}

/// What a line of the log finds fault with.
fn named(line: &str) -> Option<String> {
    let entry: serde_json::Value = serde_json::from_str(line).ok()?;
    let (table, column) = (entry["table"].as_str()?, entry["column"].as_str()?);
    Some(if column.is_empty() { table.to_owned() } else { format!("{table}.{column}") })
}

async fn everything_works(world: &World, variant: &Variant) {
    world.cli(&["migrate"]).await;
    let Variant { company, template, .. } = variant;
    let daemon = world.daemon().await;
    let told = event("pay-1").with("company_no", *company).with("template_id", *template);
    world.publish(told).await;
    world.row_when("pay-1", "sent", |row| row.recipient == "oAlice" && row.end() == "sent").await;

    // What operators write goes into these tables too, and is found again.
    let new = ["app", "add", "--app-id", "wxnew", "--name", "New"];
    assert!(world.command_with(&new, &[("APP_SECRET", "secret")]).await.status.success(), "{}", variant.name);
    world.cli(&["app", "list"]).await;
    world
        .cli(&[
            "user",
            "bind",
            "--app-id",
            APP,
            "--openid",
            "oCarol",
            "--sys-user",
            "carol",
            "--accept",
            template,
        ])
        .await;
    let company = ["--company", *company, "--app-id", APP, "--template-id", *template];
    world.cli(&[&["rule", "add"][..], &company, &["--sys-users", "carol"]].concat()).await;
    assert!(world.cli(&["rule", "list", "--user", "carol"]).await.contains("carol"));
    world.publish(event("pay-2").with("company_no", company[1]).with("template_id", *template)).await;
    world.row_when("pay-2", "sent", |row| row.recipient == "oCarol" && row.end() == "sent").await;
    world.finish(daemon).await;
}

/// The relations of this world.
async fn tables(world: &World) -> std::collections::BTreeMap<String, ()> {
    let rows =
        world.db.query("SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()", &[]);
    rows.await.unwrap().iter().map(|row| (row.get(0), ())).collect()
}

#[tokio::test]
async fn what_refers_to_the_tutorial_s_ids_still_does_after_the_conversion() {
    let [tutorial, ..] = variants::all();
    let world = World::over(&tutorial.tables).await;
    let script = refused_with_a_complete_list(&world, &tutorial).await;
    world.db.batch_execute(&script).await.unwrap();

    let member = world
        .db
        .query_one(
            "SELECT u.openid, u.id FROM t_shop_member m JOIN t_wechat_user u ON u.former_id = m.wechat_user",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(member.get::<_, &str>("openid"), "oAlice");
    assert!(member.get::<_, i64>("id") > 0);
    world.db.execute("INSERT INTO t_shop_member VALUES (2, 'nobody')", &[]).await.unwrap_err();
    let bob =
        world.db.query_one("SELECT status::int, update_time FROM t_wechat_user WHERE openid = 'oBob'", &[]);
    let bob = bob.await.unwrap();
    assert_eq!(bob.get::<_, i32>(0), 0);
    assert_eq!(bob.get::<_, jiff::Timestamp>(1).to_string(), "2026-11-01T02:00:00Z", "by Beijing's clock");
}

#[tokio::test]
async fn every_column_that_a_migration_creates_is_in_the_table_of_expected_columns() {
    let scratch = Scratch::new().await;
    let db = scratch.database();
    migrate::apply(&db).await.unwrap();
    assert!(migrate::examine(&db).await.unwrap());

    let rows = scratch
        .client()
        .await
        .query(
            "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod)
               FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
              WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
                AND c.relname <> 't_wechat_migration'",
            &[],
        )
        .await
        .unwrap();
    let mut created: BTreeSet<(String, String, Option<String>)> =
        rows.iter().map(|row| (row.get(0), row.get(1), Some(row.get(2)))).collect();
    for (table, column, data_type) in shape::columns() {
        let is_that = |one: &&(String, String, Option<String>)| {
            one.0 == table && one.1 == column && (data_type.is_none() || one.2.as_deref() == data_type)
        };
        let one = created.iter().find(is_that).cloned();
        let one = one.unwrap_or_else(|| panic!("no migration creates {table}.{column} {data_type:?}"));
        created.remove(&one);
    }
    assert!(created.is_empty(), "src/db/shape/expected.rs does not know {created:?}");
}

#[tokio::test]
async fn a_table_that_was_changed_after_it_was_migrated_is_refused() {
    let scratch = Scratch::new().await;
    let db = scratch.database();
    migrate::apply(&db).await.unwrap();
    let client = scratch.client().await;
    client.batch_execute("ALTER TABLE t_wechat_delivery DROP COLUMN trace_id").await.unwrap();
    client.batch_execute("DROP INDEX t_wechat_user_openid").await.unwrap();
    client.batch_execute("ALTER TABLE t_wechat_quota RENAME TO t_quota").await.unwrap();

    let Err(MigrateError::Shape(differences)) = migrate::examine(&db).await else { panic!("not refused") };
    let told: Vec<String> = differences.iter().map(ToString::to_string).collect();
    let named = |name: &str| told.iter().any(|line| line.starts_with(name));
    assert!(told.len() == 3, "{told:?}");
    assert!(named("t_wechat_user.app_id, openid:") && named("t_wechat_delivery.trace_id:"), "{told:?}");
    assert!(named("t_wechat_quota:"), "{told:?}");
}

#[tokio::test]
async fn a_role_that_may_change_no_table_starts_where_nothing_is_to_be_changed() {
    let world = World::new().await;
    let role = format!("runner_{}", world.name);
    world
        .db
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {0} TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {0} TO {role};
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA {0} TO {role};",
            world.name
        ))
        .await
        .unwrap();
    let url = world.database_url.replace("postgres://postgres@", &format!("postgres://{role}@"));
    assert_ne!(url, world.database_url);

    let applied = world.command_with(&["migrate"], &[("DATABASE__URL", &url)]).await;
    let told = String::from_utf8_lossy(&applied.stderr);
    assert_eq!(String::from_utf8_lossy(&applied.stdout), "nothing to apply\n", "{told}");
    world.user("zhangsan", "o-zhang").await;
    world.rule(&["zhangsan"]).await;
    let daemon = world.daemon_with(&[("DATABASE__URL", &url), ("DATABASE__MIGRATE_ON_START", "true")]).await;
    world.publish(event("pay-1")).await;
    assert_eq!(world.ended("pay-1").await.end(), "sent");
    world.finish(daemon).await;
}

#[tokio::test]
async fn a_column_of_another_type_is_an_error_that_names_it_not_a_panic() {
    let scratch = Scratch::new().await;
    let db = scratch.database();
    migrate::apply(&db).await.unwrap();
    scratch
        .client()
        .await
        .simple_query(
            "INSERT INTO t_wechat_app (app_id) VALUES ('wx1');
             ALTER TABLE t_wechat_app ALTER COLUMN update_time TYPE timestamp",
        )
        .await
        .unwrap();

    let error = apps::list(&db).await.unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }), "{error}");
    let told = error.to_string();
    assert!(told.contains("column update_time") && told.contains("`timestamp`"), "{told}");
}

#[tokio::test]
async fn a_row_that_a_trigger_swallows_is_an_error_not_a_panic() {
    let scratch = Scratch::new().await;
    let db = scratch.database();
    migrate::apply(&db).await.unwrap();
    scratch
        .client()
        .await
        .simple_query(
            "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER swallow BEFORE INSERT ON t_wechat_message_user FOR EACH ROW EXECUTE FUNCTION swallow()",
        )
        .await
        .unwrap();

    let rule = rules::NewRule {
        company_no: CompanyNo::parse("C001").unwrap(),
        app_id: AppId::parse("wx1").unwrap(),
        template_id: TemplateId::parse("T1").unwrap(),
        customer_id: None,
        sys_user_ids: Vec::new(),
        openids: Vec::new(),
    };
    let error = rules::add(&db, &rule).await.unwrap_err();
    assert!(error.to_string().contains("registry::add_rule"), "{error}");
}

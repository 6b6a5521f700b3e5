//! Migrations: applied once, by whoever comes first, also over tables that hold rows; never over a foreign history.

use sha2::{Digest, Sha256};
use wechat_notifier::db::migrate::{self, MigrateError};

use crate::scratch::Scratch;

#[tokio::test]
async fn a_second_run_finds_nothing_to_do() {
    let scratch = Scratch::new().await;
    let db = scratch.database();

    let pending = migrate::status(&db).await.unwrap();
    assert!(pending.iter().all(|state| state.applied_at.is_none()), "status must not apply anything");

    let first = migrate::apply(&db).await.unwrap();
    assert_eq!((first[0].name, first.len()), ("tables", pending.len()));
    assert_eq!(migrate::apply(&db).await.unwrap(), []);
    assert_eq!(migrate::status(&db).await.unwrap(), first);
}

#[tokio::test]
async fn of_replicas_that_start_together_one_migrates() {
    let scratch = Scratch::new().await;
    let (one, two, three) = (scratch.database(), scratch.database(), scratch.database());

    let (one, two, three) = tokio::join!(migrate::apply(&one), migrate::apply(&two), migrate::apply(&three));
    let all = migrate::status(&scratch.database()).await.unwrap().len();
    assert_eq!(one.unwrap().len() + two.unwrap().len() + three.unwrap().len(), all, "each step once");
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
    let scratch = Scratch::new().await;
    let db = scratch.database();
    migrate::apply(&db).await.unwrap();
    let client = scratch.client().await;
    client.execute("UPDATE t_wechat_migration SET checksum = 'another'", &[]).await.unwrap();

    for refusal in [migrate::apply(&db).await.unwrap_err(), migrate::status(&db).await.unwrap_err()] {
        assert!(matches!(refusal, MigrateError::Changed { version: 1, .. }), "{refusal}");
        assert!(refusal.to_string().contains("new migration"), "says what to do: {refusal}");
    }
}

#[tokio::test]
async fn a_newer_release_s_migration_is_refused_and_nothing_is_touched() {
    let scratch = Scratch::new().await;
    let db = scratch.database();
    let client = scratch.client().await;
    client
        .execute("CREATE TABLE t_wechat_migration (version int PRIMARY KEY, name text, checksum text, applied_at timestamptz DEFAULT now())", &[])
        .await
        .unwrap();
    client.execute("INSERT INTO t_wechat_migration VALUES (999, 'future', 'x')", &[]).await.unwrap();

    let refusal = migrate::apply(&db).await.unwrap_err();
    assert!(matches!(refusal, MigrateError::Unknown { version: 999, .. }), "{refusal}");
    let ledger = client.query_one("SELECT to_regclass('t_wechat_delivery') IS NULL", &[]).await.unwrap();
    assert!(ledger.get::<_, bool>(0), "nothing of ours is applied on top of a newer release");
}

#[tokio::test]
async fn a_release_goes_on_beside_a_newer_one_whose_migration_says_that_it_can() {
    let scratch = Scratch::new().await;
    let db = scratch.database();
    let ours = migrate::apply(&db).await.unwrap();
    let newest = ours.last().unwrap().version;
    let client = scratch.client().await;
    let later = "INSERT INTO t_wechat_migration (version, name, checksum, compatible_with) VALUES ($1, 'later', 'x', $2)";

    client.execute(later, &[&998, &Some(newest)]).await.unwrap();
    assert_eq!(migrate::status(&db).await.unwrap(), ours, "what it does not know is no fault");
    assert_eq!(migrate::missing(&db).await.unwrap(), None, "ready");
    assert_eq!(migrate::apply(&db).await.unwrap(), []);
    assert!(migrate::examine(&db).await.unwrap());

    for says in [Some(newest + 1), None] {
        client.execute(later, &[&999, &says]).await.unwrap();
        let refusal = migrate::missing(&db).await.unwrap_err();
        assert!(matches!(refusal, MigrateError::Unknown { version: 999, .. }), "{says:?}: {refusal}");
        client.execute("DELETE FROM t_wechat_migration WHERE version = 999", &[]).await.unwrap();
    }
    // Behind a gap nothing is known of what the later one relied on.
    client.execute("DELETE FROM t_wechat_migration WHERE version = $1", &[&newest]).await.unwrap();
    let refusal = migrate::apply(&db).await.unwrap_err();
    assert!(matches!(refusal, MigrateError::Unknown { version: 998, .. }), "{refusal}");
}

/// The card's three tables as business systems may have made them, each with a row.
const CARD_TABLES: &str = "
    CREATE TABLE t_wechat_app (
        id bigserial PRIMARY KEY, app_id varchar(64) NOT NULL, app_name varchar(128), app_secret varchar(128),
        access_token text, token_exp_time timestamptz, create_by varchar(64),
        create_time timestamptz NOT NULL DEFAULT now(), update_by varchar(64),
        update_time timestamptz NOT NULL DEFAULT now(), remarks text, status smallint NOT NULL DEFAULT 1);
    CREATE TABLE t_wechat_user (
        id bigserial PRIMARY KEY, app_id varchar(64) NOT NULL, openid varchar(64) NOT NULL, unionid varchar(64),
        nick_name text, avatar_url text, session_key text, subscribe_template jsonb, sys_user_id varchar(64),
        username text, create_by text, create_time timestamptz NOT NULL DEFAULT now(), update_by text,
        update_time timestamptz NOT NULL DEFAULT now(), remarks text, status smallint NOT NULL DEFAULT 1);
    CREATE TABLE t_wechat_message_user (
        id bigserial PRIMARY KEY, company_no varchar(64) NOT NULL, app_id varchar(64) NOT NULL,
        template_id varchar(64) NOT NULL, customer_id varchar(64), sys_user_ids text[], create_by text,
        create_time timestamptz NOT NULL DEFAULT now(), update_by text,
        update_time timestamptz NOT NULL DEFAULT now(), remarks text, status smallint NOT NULL DEFAULT 1);
    INSERT INTO t_wechat_app (app_id, app_secret) VALUES ('wx1', 's');
    INSERT INTO t_wechat_user (app_id, openid, sys_user_id) VALUES ('wx1', 'oAlice', 'alice');
    INSERT INTO t_wechat_message_user (company_no, app_id, template_id, sys_user_ids)
         VALUES ('C001', 'wx1', 'T1', '{alice}');";

#[tokio::test]
async fn tables_that_exist_and_hold_rows_are_kept_and_extended() {
    let scratch = Scratch::new().await;
    let client = scratch.client().await;
    client.simple_query(CARD_TABLES).await.unwrap();

    migrate::apply(&scratch.database()).await.unwrap();

    let app = client.query_one("SELECT token_api, token_version FROM t_wechat_app", &[]).await.unwrap();
    assert_eq!((app.get::<_, &str>(0), app.get::<_, i64>(1)), ("stable", 0), "old rows get our defaults");
    let rule =
        client.query_one("SELECT sys_user_ids, openids FROM t_wechat_message_user", &[]).await.unwrap();
    assert_eq!(rule.get::<_, Vec<String>>(0), ["alice"]);
    assert!(rule.get::<_, Vec<String>>(1).is_empty());
    client
        .execute("INSERT INTO t_wechat_user (app_id, openid) VALUES ('wx1', 'oAlice')", &[])
        .await
        .unwrap_err();
}

#[tokio::test]
async fn the_card_s_plain_columns_are_enough_for_an_insert() {
    let scratch = Scratch::new().await;
    migrate::apply(&scratch.database()).await.unwrap();
    let client = scratch.client().await;
    client
        .simple_query(
            "INSERT INTO t_wechat_app (app_id, app_name, app_secret, access_token, token_exp_time)
                  VALUES ('wx1', 'Shop', 's', NULL, NULL);
             INSERT INTO t_wechat_user (app_id, openid, unionid, nick_name, avatar_url, session_key,
                                        subscribe_template, sys_user_id, username)
                  VALUES ('wx1', 'oA', NULL, NULL, NULL, NULL, '{}', 'alice', 'Alice');
             INSERT INTO t_wechat_message_user (company_no, app_id, template_id, customer_id, sys_user_ids)
                  VALUES ('C001', 'wx1', 'T1', NULL, '{alice}');",
        )
        .await
        .unwrap();
    let app = client.query_one("SELECT status, token_api FROM t_wechat_app", &[]).await.unwrap();
    assert_eq!((app.get::<_, i16>(0), app.get::<_, &str>(1)), (1, "stable"));
}

/// The migrations of release 0.1, with the names that they are recorded by.
const RELEASE_0_1: [(&str, &str); 6] = [
    ("tables", include_str!("../../migrations/0001_tables.sql")),
    ("pauses", include_str!("../../migrations/0002_pauses.sql")),
    ("rates", include_str!("../../migrations/0003_rates.sql")),
    ("letters", include_str!("../../migrations/0004_letters.sql")),
    ("replay", include_str!("../../migrations/0005_replay.sql")),
    ("lookups", include_str!("../../migrations/0006_lookups.sql")),
];

/// What that release has left: a dead delivery with its dead letter, in a replay that runs, and one that was resolved.
const LEFT_BY_RELEASE_0_1: &str = "
    INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, status, turn, content_hash)
         VALUES ('C1', 'wx1', 'T1', 'pay-1', 'oA', 'oA', 'dead', 3, 'h'), ('C1', 'wx1', 'T1', 'pay-2', 'oA', 'oA', 'dead', 0, 'h');
    INSERT INTO t_wechat_dead_letter (letter, reason, company_no, app_id, template_id, event_id, recipient, turn, fingerprint, body)
         VALUES ('l-1', 'exhausted', 'C1', 'wx1', 'T1', 'pay-1', 'oA', 3, 'f', 'x');
    INSERT INTO t_wechat_letter_action (act, action, operator, filter, letters)
         VALUES (gen_random_uuid(), 'resolved', 'ann', '{}', '{1}');
    INSERT INTO t_wechat_replay (operator, filter, cut_off, state, letters) VALUES ('ann', '{}', 1, 'running', 1);
    INSERT INTO t_wechat_replay_letter (replay, letter, state, company_no, app_id, template_id, event_id, recipient, turn, had_rows)
         VALUES (1, 1, 'published', 'C1', 'wx1', 'T1', 'pay-1', 'oA', 4, true);";

#[tokio::test]
async fn what_release_0_1_left_keeps_its_values_under_the_new_names() {
    let scratch = Scratch::new().await;
    let client = scratch.client().await;
    client
        .batch_execute("CREATE TABLE t_wechat_migration (version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(), compatible_with integer)")
        .await
        .unwrap();
    for (version, (name, sql)) in (1_i32..).zip(RELEASE_0_1) {
        client.batch_execute(sql).await.unwrap();
        let checksum: String = Sha256::digest(sql).iter().map(|byte| format!("{byte:02x}")).collect();
        let insert = "INSERT INTO t_wechat_migration VALUES ($1, $2, $3, now(), 1)";
        client.execute(insert, &[&version, &name, &checksum]).await.unwrap();
    }
    client.batch_execute(LEFT_BY_RELEASE_0_1).await.unwrap();

    let applied = migrate::apply(&scratch.database()).await.unwrap();
    assert_eq!(applied.iter().map(|state| state.version).min(), Some(7), "only what is new");

    let one = async |sql: &str| client.query_one(sql, &[]).await.unwrap().get::<_, String>(0);
    let delivery = "SELECT concat_ws(' ', status, epoch) FROM t_wechat_delivery WHERE event_id = 'pay-1'";
    assert_eq!(one(delivery).await, "dead 3");
    assert_eq!(one("SELECT concat_ws(' ', identity, epoch) FROM t_wechat_dead_letter").await, "l-1 3");
    assert_eq!(one("SELECT dead_letters::text FROM t_wechat_dead_letter_action").await, "{1}");
    let replay = "SELECT concat_ws(' ', p.dead_letters, r.dead_letter, r.epoch, r.outcome)
                    FROM t_wechat_replay p, v_wechat_replay_dead_letter r";
    assert_eq!(one(replay).await, "1 1 4 in_progress");
    assert_eq!(
        one("SELECT string_agg(concat_ws(' ', gap, event_id, epoch), ';') FROM v_wechat_conservation").await,
        "dead without a dead letter pay-2 0"
    );
    let refusal = client.execute("DELETE FROM t_wechat_dead_letter_action", &[]).await.unwrap_err();
    assert!(refusal.as_db_error().unwrap().message().contains("append-only"), "{refusal}");
    assert_eq!(
        one("SELECT coalesce(string_agg(relname, ' '), 'none') FROM pg_class
              WHERE relnamespace = current_schema()::regnamespace AND relname ~ '(?<!dead)_letter'")
        .await,
        "none",
        "tables and indexes that kept a former name"
    );
}

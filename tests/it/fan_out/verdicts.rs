//! Who gets an event is decided in Rust for a page and in SQL for a crowd: both must say the same of everybody.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use wechat_notifier::db::ledger::fan_out::{Done, Limits, Written};
use wechat_notifier::db::ledger::{fan_out, plan};
use wechat_notifier::db::migrate;
use wechat_notifier::domain::event::{Arrival, Event};
use wechat_notifier::domain::plan::{Spread, spread};
use wechat_notifier::domain::recipient::Recipient;

use crate::scratch::Scratch;

/// Whom a row is about, and why he gets nothing, if so.
type Verdict = (String, Option<String>, Option<String>);

#[tokio::test]
async fn sql_and_rust_judge_everybody_alike() {
    let scratch = migrated().await;
    every_consent(&scratch).await;
    odd_people(&scratch).await;

    for event in [by_rule(), names_odd_people()] {
        let rust = judged_by_rust(&scratch, &event).await;
        assert!(rust.len() > 10, "only {} people to compare", rust.len());
        assert_eq!(judged_by_sql(&scratch, &event).await, rust);
    }
}

#[tokio::test]
async fn a_set_is_written_once_however_many_write_it() {
    let scratch = migrated().await;
    let client = scratch.client().await;
    let crowd = "INSERT INTO t_wechat_message_user (company_no, app_id, template_id, openids)
                 SELECT 'c', 'a', 't', array_agg($1 || n) FROM generate_series(1, 600) n";
    client.execute(crowd, &[&"early-"]).await.unwrap();
    let (db, event) = (scratch.database(), decoded(&by_rule()));

    let writers = (0..3).map(|_| fan_out::write(&db, &event, None, &[], usual()));
    let written = futures_util::future::try_join_all(writers).await.unwrap();
    let written: Vec<Written> = written.into_iter().map(all).collect();
    client.execute(crowd, &[&"late-"]).await.unwrap();
    let again = all(fan_out::write(&db, &event, None, &[], usual()).await.unwrap());

    let new: usize = written.iter().flat_map(|w| &w.skipped).map(|(_, count)| count).sum();
    assert_eq!((new, again.skipped.len()), (600, 0), "somebody added to a set that stood");
    assert!(again.any && written.iter().all(|w| w.any));
}

/// Writing a row takes 2 ms here, and a statement may take 300: the 600 people come in pieces.
#[tokio::test]
async fn a_set_that_takes_too_long_is_written_in_pieces() {
    let scratch = migrated().await;
    let client = scratch.client().await;
    let slow = [
        "INSERT INTO t_wechat_message_user (company_no, app_id, template_id, openids)
         SELECT 'c', 'a', 't', array_agg('o' || n) FROM generate_series(1, 600) n",
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN PERFORM pg_sleep(0.002); RETURN new; END $$",
        "CREATE TRIGGER slow BEFORE INSERT ON t_wechat_delivery FOR EACH ROW EXECUTE FUNCTION slow()",
    ];
    for statement in slow {
        client.execute(statement, &[]).await.unwrap();
    }
    let limits = Limits { statement: Duration::from_millis(300), ..usual() };

    let written = fan_out::write(&scratch.database(), &decoded(&by_rule()), None, &[], limits).await.unwrap();

    assert_eq!(all(written).skipped.iter().map(|(_, count)| count).sum::<usize>(), 600);
    let rows = client.query_one("SELECT count(*) FROM t_wechat_delivery", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 600);
}

/// What is not written in time is not written at all: a part of a set could be taken for the whole.
#[tokio::test]
async fn a_set_that_is_not_written_in_time_leaves_no_row() {
    let scratch = migrated().await;
    let client = scratch.client().await;
    let crowd = "INSERT INTO t_wechat_message_user (company_no, app_id, template_id, openids)
                 SELECT 'c', 'a', 't', array_agg('o' || n) FROM generate_series(1, 600) n";
    client.execute(crowd, &[]).await.unwrap();
    let limits = Limits { whole: Instant::now(), ..usual() };

    let error =
        fan_out::write(&scratch.database(), &decoded(&by_rule()), None, &[], limits).await.unwrap_err();

    assert!(error.is_away(), "{error}");
    let rows = client.query_one("SELECT count(*) FROM t_wechat_delivery", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 0);
}

fn all(done: Done) -> Written {
    match done {
        Done::Written(written) => written,
        Done::Refused(recipients, error) => panic!("refused for {} recipients: {error}", recipients.len()),
    }
}

fn usual() -> Limits {
    Limits::usual(Instant::now())
}

#[tokio::test]
async fn the_rules_are_not_asked_about_an_event_with_an_empty_list() {
    let scratch = migrated().await;
    rule(&scratch.client().await, vec!["plain".to_owned()], &["o-plain"]).await;
    for (field, other) in [("sys_user_ids", "openids"), ("openids", "sys_user_ids")] {
        let mut event = by_rule();
        event["event_id"] = json!(field);
        event[field] = json!([]);
        event[other] = json!(null);
        assert!(judged_by_sql(&scratch, &event).await.is_empty(), "{event}");
        let nobody = vec![(String::new(), None, Some("no_recipients".to_owned()))];
        assert_eq!(judged_by_rust(&scratch, &event).await, nobody, "{event}");
    }
}

async fn migrated() -> Scratch {
    let scratch = Scratch::new().await;
    migrate::apply(&scratch.database()).await.unwrap();
    scratch
}

/// Every consent there can be, each on a user's row that is active and on one that is off.
async fn every_consent(scratch: &Scratch) {
    let client = scratch.client().await;
    let words = [
        json!("accept"),
        json!("acceptWithAudio"),
        json!("accepted_no"),
        json!("accept "),
        json!("accept\u{1b}"),
        json!("reject"),
        json!("ban"),
        json!("filter"),
        json!("whatever"),
        json!(""),
        json!(7),
        json!(true),
        json!(null),
        json!(["accept"]),
    ];
    let counts = ["null", "2", "1", "0", "-1", "-9000000000", "0.0", "-1.5", "\"0\"", "[]", "1e2"];
    let mut records: Vec<Value> = vec![json!(null), json!("accept"), json!(["accept"]), json!({})];
    for word in &words {
        records.push(json!({ "status": word }));
        for count in counts {
            records
                .push(json!({ "status": word, "remaining": serde_json::from_str::<Value>(count).unwrap() }));
        }
    }
    for cause in [
        json!("refused"),
        json!("sent"),
        json!("bad_openid"),
        json!("settings"),
        json!(null),
        json!(["sent"]),
    ] {
        for word in ["reject", "accept", "ban"] {
            records.push(json!({ "status": word, "remaining": 0, "cause": cause }));
            records.push(json!({ "status": word, "cause": cause }));
        }
    }
    for (number, record) in records.iter().enumerate() {
        for active in [1_i16, 0] {
            client
                .execute(
                    "INSERT INTO t_wechat_user (app_id, openid, sys_user_id, status, subscribe_template)
                     VALUES ('a', $1, $2, $3, $4)",
                    &[
                        &format!("o-{number}-{active}"),
                        &format!("u-{number}"),
                        &active,
                        &json!({ "t": record, "other": { "status": "accept" } }),
                    ],
                )
                .await
                .unwrap();
        }
    }
    rule(&client, (0..records.len()).map(|number| format!("u-{number}")).collect(), &[]).await;
}

/// People whose names, or records, are not as they should be.
async fn odd_people(scratch: &Scratch) {
    let client = scratch.client().await;
    let too_long = "x".repeat(129);
    let accept = json!({ "t": { "status": "accept" } });
    for (openid, sys_user_id, record) in [
        ("o-plain", Some("plain"), Some(&accept)),
        ("o-second", Some("plain"), Some(&accept)),
        ("o-unnamed", None, Some(&accept)),
        ("o-empty", Some(""), Some(&accept)),
        ("o-long-name", Some(too_long.as_str()), Some(&accept)),
        ("o-bell", Some("bell\u{7}"), Some(&accept)),
        ("o-bell-\u{85}", Some("rung"), Some(&accept)),
        (too_long.as_str(), Some("long-openid"), Some(&accept)),
        ("o-no-record", Some("no-record"), None),
    ] {
        client
            .execute(
                "INSERT INTO t_wechat_user (app_id, openid, sys_user_id, subscribe_template) VALUES ('a', $1, $2, $3)",
                &[&openid, &sys_user_id, &record],
            )
            .await
            .unwrap();
    }
    let users =
        ["plain", "plain", "", "bell\u{7}", "rung", "long-openid", "no-record", "stranger", &too_long];
    let openids = ["o-plain", "o-unnamed", "o-nobody", "", "o-long-name", "@stranger", &too_long, "张三"];
    rule(&client, users.map(str::to_owned).into(), &openids).await;
    rule(&client, vec!["plain".to_owned()], &["o-second"]).await;
}

async fn rule(client: &tokio_postgres::Client, sys_user_ids: Vec<String>, openids: &[&str]) {
    client
        .execute(
            "INSERT INTO t_wechat_message_user (company_no, app_id, template_id, sys_user_ids, openids)
             VALUES ('c', 'a', 't', $1, $2)",
            &[&sys_user_ids, &openids],
        )
        .await
        .unwrap();
}

fn by_rule() -> Value {
    json!({ "event_id": "by-rule", "company_no": "c", "app_id": "a", "template_id": "t", "data": { "thing1": "x" } })
}

fn names_odd_people() -> Value {
    let mut event = by_rule();
    event["event_id"] = json!("named");
    event["sys_user_ids"] = json!(["plain", "plain", "rung", "long-openid", "no-record", "stranger", "u-7"]);
    event["openids"] = json!(["o-plain", "o-unnamed", "o-nobody", "o-long-name", "@stranger", "张三"]);
    event
}

fn decoded(event: &Value) -> Arc<Event> {
    let first_seen = "2026-11-22T03:00:00Z".parse().unwrap();
    let arrival =
        Arrival { message_id: None, timestamp: None, first_seen, default_ttl: Duration::from_secs(60) };
    Arc::new(Event::decode(event.to_string().as_bytes(), &arrival).unwrap())
}

async fn judged_by_rust(scratch: &Scratch, event: &Value) -> Vec<Verdict> {
    let found = plan::look_up(&scratch.database(), &[decoded(event)]).await.unwrap().remove(0);
    let Ok(Spread::AtOnce(plan)) = spread(found.named, found.many, &found.known) else {
        panic!("too many for one page: nothing to compare with");
    };
    let willing = plan.deliveries.into_iter().map(|recipient| (recipient, None));
    let refused = plan.skips.into_iter().map(|(recipient, reason)| (recipient, Some(reason.to_string())));
    sorted(willing.chain(refused).map(|(recipient, reason)| verdict(&recipient, reason)).collect())
}

fn verdict(recipient: &Recipient, reason: Option<String>) -> Verdict {
    (recipient.ledger_key(), recipient.sys_user_id().map(|id| id.as_str().to_owned()), reason)
}

async fn judged_by_sql(scratch: &Scratch, event: &Value) -> Vec<Verdict> {
    fan_out::write(&scratch.database(), &decoded(event), None, &[], usual()).await.unwrap();
    let rows = scratch
        .client()
        .await
        .query(
            "SELECT recipient, sys_user_id, reason FROM t_wechat_delivery
              WHERE event_id = $1 AND (status = 'planned') = (reason IS NULL)",
            &[&event["event_id"].as_str().unwrap()],
        )
        .await
        .unwrap();
    sorted(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

fn sorted(mut verdicts: Vec<Verdict>) -> Vec<Verdict> {
    verdicts.sort();
    verdicts
}

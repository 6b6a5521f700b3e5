//! What is not replayed, and why; said before anything is done.

use serde_json::json;
use wechat_notifier::domain::replay::Refusal;

use super::{ALL, replay, settled, states, world_with_dead_letters};

const EXPIRED: &str = "
    UPDATE t_wechat_dead_letter
       SET body = convert_to(jsonb_set(convert_from(body, 'UTF8')::jsonb, '{expires_at}', '\"2020-01-01T00:00:00Z\"')::text,
                             'UTF8')
     WHERE event_id = 'pay-1'";

#[tokio::test]
async fn a_dry_run_tells_by_group_and_does_nothing() {
    let world = world_with_dead_letters(9).await;
    world.sql(EXPIRED).await;
    for statement in [
        "UPDATE t_wechat_delivery SET status = 'sent', reason = NULL WHERE event_id = 'pay-2'",
        "UPDATE t_wechat_dead_letter SET state = 'resolved' WHERE event_id = 'pay-3'",
        "UPDATE t_wechat_dead_letter SET state = 'replayed' WHERE event_id = 'pay-4'",
        "UPDATE t_wechat_delivery SET status = 'retrying', reason = NULL WHERE event_id = 'pay-5'",
        "UPDATE t_wechat_delivery SET epoch = 3 WHERE event_id = 'pay-6'",
        "UPDATE t_wechat_dead_letter SET body = 'no event', reason = 'malformed', fingerprint = 'def' WHERE event_id = 'pay-7'",
    ] {
        world.sql(statement).await;
    }
    let before = states(&world).await;
    let (code, survey) = replay(&world, "--dry-run").await;
    assert_eq!((code, &survey["going"]), (0, &json!(2)));
    let refused = json!({"expired": 1, "already_sent": 1, "resolved": 1, "replayed": 1, "in_progress": 1,
                         "superseded": 1, "needs_body": 1});
    assert_eq!(survey["refused"], refused);
    let groups = survey["groups"].as_array().unwrap();
    assert_eq!(
        (groups.len(), &groups[0]["going"], &groups[1]["refused"]),
        (2, &json!(2), &json!({"needs_body": 1}))
    );
    assert_eq!(states(&world).await, before);
    let told = world.cli(&["dlq", "replay", "--dry-run"]).await;
    assert!(told.contains("1 expired: too old; --even-expired"), "{told}");
    assert!(world.cli(&["dlq", "history", "--json"]).await.trim() == "[]");
}

#[tokio::test]
async fn what_is_refused_is_open_again_and_said_to_be_so() {
    let world = world_with_dead_letters(2).await;
    world.sql(EXPIRED).await;
    let daemon = world.daemon().await;
    replay(&world, ALL).await;
    let account = settled(&world, 1).await;
    assert_eq!(
        (&account["refusals"], &account["outcomes"]),
        (&json!({"expired": 1}), &json!({"refused": 1, "sent": 1}))
    );
    super::states_when(&world, "open: 1, replayed: 1").await;

    replay(&world, "--even-expired").await;
    assert_eq!(settled(&world, 2).await["outcomes"], json!({"sent": 1}));
    super::everybody_has_his_message(&world, 2).await;
    world.finish(daemon).await;
}

#[tokio::test]
async fn a_paused_app_is_refused_and_one_paused_long_ago_is_not() {
    let world = world_with_dead_letters(1).await;
    let pause = format!(
        "INSERT INTO t_wechat_pause (app_id, template_id, process, reason) VALUES ('{}', '', 'host:1', 'quota')",
        crate::support::APP
    );
    world.sql(&pause).await;
    assert_eq!(replay(&world, "--dry-run").await.1["refused"], json!({"paused": 1}));
    world.sql("UPDATE t_wechat_pause SET updated_at = now() - interval '1 hour'").await;
    assert_eq!(replay(&world, "--dry-run").await.1["going"], 1);
}

#[test]
fn every_refusal_is_explained_to_operators() {
    let told = include_str!("../../../docs/OPERATING.md");
    for refusal in Refusal::ALL {
        assert!(told.contains(&format!("`{refusal}`")), "{refusal} is missing in docs/OPERATING.md");
        assert!(!refusal.advice().is_empty());
    }
}

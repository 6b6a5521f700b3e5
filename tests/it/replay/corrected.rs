//! Dead letters that cannot go out as they are.

use std::path::PathBuf;

use serde_json::json;

use super::{ALL, replay, settled, states_when, world_with_dead_letters};
use crate::support::{EventBody, World, event};

/// The corrected body in a file of its own.
fn file(world: &World, body: &EventBody) -> PathBuf {
    let path = std::env::temp_dir().join(format!("{}-corrected.json", world.name));
    std::fs::write(&path, body.0.to_string()).unwrap();
    path
}

async fn replay_corrected(world: &World, dead_letter: i64, body: &EventBody) -> std::process::Output {
    let path = file(world, body);
    let output = world
        .command(&[
            "dlq",
            "replay",
            "--id",
            &dead_letter.to_string(),
            "--body",
            path.to_str().unwrap(),
            "--json",
        ])
        .await;
    std::fs::remove_file(path).unwrap();
    output
}

#[tokio::test]
async fn a_content_is_corrected_and_the_archive_keeps_the_original() {
    let world = world_with_dead_letters(1).await;
    let daemon = world.daemon().await;
    let output = replay_corrected(
        &world,
        1,
        &event("pay-1").with("data", json!({"character_string1": "pay-1", "amount2": "corrected"})),
    )
    .await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(settled(&world, 1).await["outcomes"], json!({"sent": 1}));
    let inbox = world.wechat.ask("sent?openid=openid-1&full=1").await.to_string();
    assert!(inbox.contains("corrected"), "{inbox}");
    let kept = world.cli(&["dlq", "show", "1", "--full", "--json"]).await;
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    assert!(!kept["body"].as_str().unwrap().contains("corrected"), "{kept}");
    world.finish(daemon).await;
}

#[tokio::test]
async fn a_corrected_body_stays_the_delivery_it_was_and_must_be_an_event() {
    let world = world_with_dead_letters(1).await;
    let said = async |body| String::from_utf8(replay_corrected(&world, 1, &body).await.stderr).unwrap();
    let refused = said(event("pay-2")).await;
    assert!(refused.contains("field `event_id`: must stay pay-1"), "{refused}");
    let refused = said(event("pay-1").with("data", 17)).await;
    assert!(refused.contains("field `data`"), "{refused}");
    states_when(&world, "open: 1").await;
}

#[tokio::test]
async fn a_malformed_message_goes_out_as_the_event_it_should_have_been() {
    let world = World::new().await;
    world.crowd(1).await;
    let daemon = world.daemon().await;
    world.publish(event("pay-1").with("data", 17)).await;
    world.dead_letters_when(1).await;
    let (code, survey) = replay(&world, "--dry-run").await;
    assert_eq!((code, &survey["refused"]), (3, &json!({"needs_body": 1})));

    let output = replay_corrected(&world, 1, &event("pay-1").to(&["user-1"])).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(settled(&world, 1).await["outcomes"], json!({"sent": 1}));
    assert_eq!(world.wechat.got("openid-1").await, 1);
    states_when(&world, "replayed: 1").await;
    world.finish(daemon).await;
    world.conserved(["pay-1".to_owned()]).await;
}

#[tokio::test]
async fn an_event_of_an_unknown_app_goes_out_once_the_app_is_there() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    world.publish(event("pay-1").with("app_id", "wx-other").to(&["zhangsan"])).await;
    world.dead_letters_when(1).await;
    let (code, survey) = replay(&world, "--dry-run").await;
    assert_eq!((code, &survey["refused"]), (3, &json!({"unknown_app": 1})));

    world.app("wx-other", "secret").await;
    world.user_of("wx-other", "zhangsan", "o-zhang", &json!({"status": "accept"})).await;
    let (code, _) = replay(&world, ALL).await;
    assert_eq!(code, 0);
    assert_eq!(settled(&world, 1).await["outcomes"], json!({"sent": 1}));
    assert_eq!(world.wechat.got("o-zhang").await, 1);
    world.finish(daemon).await;
}

#[tokio::test]
async fn an_event_that_is_refused_once_more_is_another_dead_letter() {
    let world = World::new().await;
    world.sql("UPDATE t_wechat_app SET company_no = 'C009'").await;
    let _daemon = world.daemon().await;
    world.publish(event("pay-1")).await;
    assert_eq!(world.dead_letters_when(1).await, ["wrong_company"]);
    for round in 1..=2_usize {
        replay(&world, ALL).await;
        world.dead_letters_when(round + 1).await;
        let account = settled(&world, i64::try_from(round).unwrap()).await;
        assert_eq!(account["outcomes"], json!({"dead": 1}));
        states_when(&world, &format!("open: 1, replayed: {round}")).await;
    }
}

/// The archiver readdresses an event that the broker gave up to each of its rows: only columns say to whom.
#[tokio::test]
async fn a_dead_letter_whose_recipient_stands_in_columns_reaches_him() {
    let world = world_with_dead_letters(2).await;
    world
        .sql(
            "UPDATE t_wechat_dead_letter
                SET reason = 'delivery_limit', headers = '{}',
                    body = convert_to((convert_from(body, 'UTF8')::jsonb -> 'event')::text, 'UTF8')",
        )
        .await;
    let daemon = world.daemon().await;
    replay(&world, ALL).await;
    assert_eq!(settled(&world, 1).await["outcomes"], json!({"sent": 2}));
    super::everybody_has_his_message(&world, 2).await;
    world.finish(daemon).await;
}

/// He has another openid by now; the row of the old one is dead, and stays so.
#[tokio::test]
async fn rules_asked_again_find_whom_they_name_by_now() {
    let world = World::new().await;
    world.crowd(3).await;
    world.rule(&["user-1", "user-2"]).await;
    world.wechat.fault(json!({"match": {"path": "send"}, "action": {"errcode": 47003}})).await;
    let daemon = world.daemon().await;
    world.publish(event("pay-1")).await;
    world.dead_letters_when(2).await;
    world.wechat.heal().await;
    world.sql("UPDATE t_wechat_user SET openid = 'openid-new' WHERE sys_user_id = 'user-1'").await;
    world.sql("UPDATE t_wechat_message_user SET sys_user_ids = '{user-1,user-2,user-3}'").await;

    let (code, _) = replay(&world, &format!("--re-resolve {ALL}")).await;
    assert_eq!(code, 0);
    let account = settled(&world, 1).await;
    assert_eq!(account["outcomes"], json!({"sent": 1, "skipped": 1}), "the old openid is not named any more");
    for (openid, messages) in [("openid-new", 1), ("openid-2", 1), ("openid-3", 1), ("openid-1", 0)] {
        crate::support::eventually(&format!("{openid} to have {messages}"), async || {
            (world.wechat.got(openid).await == messages).then_some(())
        })
        .await;
    }
    world.finish(daemon).await;
    world.conserved(["pay-1".to_owned()]).await;
}

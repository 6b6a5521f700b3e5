//! The first few alone; the rest only if they fare well.

use serde_json::json;

use super::{everybody_has_his_message, replay, settled, states_when, world_with_dead_letters};

const CANARY: &str = "--canary 1,5 --why corrected --yes --rate 1000";

#[tokio::test]
async fn against_a_broken_wechat_one_dead_letter_goes_and_the_rest_stay() {
    let world = world_with_dead_letters(20).await;
    let _daemon = world.daemon().await;
    world.wechat.fault(json!({"match": {"path": "send"}, "action": {"errcode": 47003}})).await;

    let (code, account) = replay(&world, CANARY).await;
    assert_eq!((code, &account["state"]), (1, &json!("stopped")));
    assert_eq!(account["stopped_because"], "canary step 1: 1 of 1 died again, more than 10%");
    assert_eq!(world.wechat.send_requests().await, 1, "one failed send");
    assert_eq!(account["outcomes"], json!({"dead": 1, "pending": 19}));

    world.wechat.heal().await;
    let (code, account) = replay(&world, "--resume 1").await;
    assert_eq!((code, &account["state"]), (0, &json!("finished")), "the operator has seen the first step");
    assert_eq!(settled(&world, 1).await["outcomes"], json!({"dead": 1, "sent": 19}));
    states_when(&world, "open: 1, replayed: 20").await;
}

#[tokio::test]
async fn steps_that_fare_well_let_the_rest_go() {
    let world = world_with_dead_letters(12).await;
    let _daemon = world.daemon().await;
    let (code, account) = replay(&world, CANARY).await;
    assert_eq!((code, &account["published"]), (0, &json!(12)));
    settled(&world, 1).await;
    everybody_has_his_message(&world, 12).await;
    let rows = world
        .db
        .query("SELECT step, count(*) FROM t_wechat_replay_dead_letter GROUP BY 1 ORDER BY 1", &[])
        .await;
    let steps: Vec<(i32, i64)> = rows.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(steps, [(0, 1), (1, 5), (2, 6)]);
}

#[tokio::test]
async fn a_step_without_outcomes_stops_it_in_the_end() {
    let world = world_with_dead_letters(2).await;
    let (code, account) = replay(&world, &format!("{CANARY} --canary-wait 1s")).await;
    assert_eq!(code, 1, "no daemon is at work");
    assert_eq!(account["stopped_because"], "canary step 1: 1 of 1 still in progress after 1 s");
}

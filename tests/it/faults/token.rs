//! Somebody else fetches the classic token, which kills ours.

use super::load::{Load, Toll, USERS};
use crate::support::APP;

#[tokio::test]
async fn a_classic_token_killed_three_times_under_load_is_fetched_three_times() {
    let load = Load::new().await;
    load.world.sql("UPDATE t_wechat_app SET token_api = 'classic'").await;
    let (one, two) = tokio::join!(load.daemon(&[]), load.daemon(&[]));
    load.begins().await;
    let first = load.world.wechat.token_fetches(APP).await;
    assert_eq!(first, 1, "the two processes share one token");

    for killed in 1..=3 {
        let sent = load.world.wechat.got_by_all().await;
        let invalidated = serde_json::json!({"appid": APP, "kind": "classic"});
        load.world.wechat.tell("tokens/invalidate", invalidated).await;
        load.sent_reaches(sent + 60).await;
        assert_eq!(load.world.wechat.token_fetches(APP).await, first + killed, "after {killed}");
    }
    assert!(load.world.wechat.got_by_all().await < USERS.into(), "the load was over before the last");

    load.world.all_ended(USERS.into()).await;
    let charged = "attempts > CASE WHEN event_id LIKE 'retried-%' THEN 3 ELSE 1 END";
    assert_eq!(load.count(charged).await, 0, "somebody paid for the token");
    assert_eq!(load.everybody_is_served([one, two]).await, Toll::NOTHING);
}

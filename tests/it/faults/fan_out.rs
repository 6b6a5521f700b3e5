//! A crash at every arrow of the protocol, in the middle of an event for many. (For single deliveries: `crash_points`.)
//!
//! Many deliveries are under way when the process dies, so what is unknown is bounded by the slots, not told to the one.

use serde_json::{Value, json};

use crate::support::{World, event};

const USERS: i32 = 600;
/// Requests at once; no crash leaves more outcomes unknown.
const CONCURRENCY: i64 = 16;

/// What is in flight when the process dies.
enum Under {
    /// Nothing: no row is claimed.
    Nothing,
    /// As many as there are slots.
    Way,
}

macro_rules! crash_points {
    ($($name:ident at $arrow:literal with $under:ident under way,)+) => { $(
        #[tokio::test]
        async fn $name() {
            crash($arrow, Under::$under, &[]).await;
        }
    )+ };
}

crash_points! {
    received at "received" with Nothing under way,
    set_written at "set_written" with Nothing under way,
    ready at "ready:300" with Way under way,
    claimed at "claimed:300" with Way under way,
    requested at "requested:300" with Way under way,
    answered at "answered:300" with Way under way,
    settled at "settled:300" with Way under way,
    page_brought at "page_brought" with Nothing under way,
    second_page_brought at "page_brought:2" with Nothing under way,
    before_ack at "before_ack" with Nothing under way,
}

#[tokio::test]
async fn deferred() {
    let away = json!({"http_status": 503, "headers": {"Retry-After": "0"}});
    crash("deferred", Under::Way, &[json!({"match": {"openid": "openid-300"}, "times": 1, "action": away})])
        .await;
}

#[tokio::test]
async fn dead_letter_published() {
    let bad = json!({"match": {"openid": "openid-300"}, "action": {"errcode": 47003}});
    crash("dead_letter_published", Under::Way, &[bad]).await;
}

/// Lets one daemon die at the arrow and another go on, and holds the books against what was under way.
async fn crash(arrow: &str, under: Under, faults: &[Value]) {
    let world = World::new().await;
    world.crowd(USERS).await;
    world.rule_for_all_and(&[]).await;
    for fault in faults {
        world.wechat.fault(fault.clone()).await;
    }
    let concurrency = CONCURRENCY.to_string();
    let mut first =
        world.daemon_with(&[("FAILPOINT", arrow), ("DELIVERY__CONCURRENCY", concurrency.as_str())]).await;
    world.publish(event("news")).await;
    first.aborted().await;

    let second = world.daemon().await;
    world.all_ended(USERS.into()).await;
    world.finish(second).await;
    let unknowns = world.conserved(["news".to_owned()]).await;
    let most = match under {
        Under::Nothing => 0,
        Under::Way => CONCURRENCY,
    };
    assert!(unknowns <= most, "{unknowns} outcomes unknown at {arrow}");
    let dead = world.dead_letters().await.len();
    let retried = i64::from(arrow == "deferred");
    assert_eq!(world.ends().await["sent"], i64::from(USERS) - i64::try_from(dead).unwrap());
    let requests = world.wechat.send_requests().await;
    assert!(requests <= i64::from(USERS) + unknowns + retried, "{requests} requests: it started over");
}

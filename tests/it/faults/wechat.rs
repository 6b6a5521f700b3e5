//! WeChat fails, in every way it can. What each answer means for one delivery is told in `error_codes`; here it comes in the
//! middle of other work, on every kind of message.

use serde_json::{Value, json};

use super::load::{Load, Toll, USERS};
use crate::support::{APP, Proxy, eventually};

/// Requests that go wrong.
const STRIKES: i64 = 40;

/// What may come of it.
enum Cost {
    /// Everybody gets it once, and nothing is unknown.
    Nothing,
    /// Nobody can know what became of a request; it had not been done.
    Unknown,
    /// … and it had been done: who is asked again gets it twice.
    Double,
}

macro_rules! wechat_faults {
    ($($name:ident: $action:expr, costs $cost:ident;)+) => { $(
        #[tokio::test]
        async fn $name() {
            every_third_request_meets($action, Cost::$cost).await;
        }
    )+ };
}

wechat_faults! {
    slow_answers: json!({"delay_ms": 1_000}), costs Nothing;
    slow_bodies: json!({"slow_body_ms": 1_000}), costs Nothing;
    html_from_a_busy_gateway: json!({"http_status": 503, "body": "<html>busy</html>"}), costs Nothing;
    html_instead_of_an_answer: json!("garbage"), costs Double;
    no_answer_at_all: json!("hang"), costs Unknown;
    a_reset_before_the_work: json!("reset"), costs Unknown;
    a_reset_after_the_work: json!("reset_after_send"), costs Double;
}

/// Strikes every third request until it has struck often enough, and holds the cost against the books.
async fn every_third_request_meets(action: Value, cost: Cost) {
    let load = Load::new().await;
    let daemon = load.daemon(&[]).await;
    load.begins().await;
    let rule = json!({"match": {"path": "send"}, "every": 3, "times": STRIKES, "action": action});
    load.world.wechat.fault(rule).await;

    let ends = load.ends([daemon]).await;
    let given_up: i64 =
        ends.rows.iter().filter(|(end, _)| end == "dead:unknown_outcome").map(|(_, n)| n).sum();
    let sent: i64 = ends.rows.iter().filter(|(end, _)| end == "sent").map(|(_, n)| n).sum();
    assert_eq!(sent + given_up, i64::from(USERS), "{:?}", ends.rows);
    match cost {
        Cost::Nothing => assert_eq!((&ends.toll, given_up), (&Toll::NOTHING, 0)),
        Cost::Unknown => {
            assert_eq!((ends.toll.unknowns, ends.toll.doubles), (STRIKES, 0));
            assert_eq!(ends.got, sent);
        }
        Cost::Double => {
            assert_eq!(ends.toll.unknowns, STRIKES);
            assert!(ends.toll.doubles > 0, "nothing was doubled: the fault did not strike");
        }
    }
}

#[tokio::test]
async fn wechat_gone_and_back_costs_what_was_on_its_way() {
    let load = Load::new().await;
    let road = Proxy::to(&load.world.wechat.base).await;
    let daemon = load.daemon(&[("WECHAT__API_BASE", &road.url)]).await;
    load.begins().await;

    road.close();
    let refused =
        format!(r#"wechat_notifier_attempts_total{{app_id="{APP}",class="transient",errcode="none"}}"#);
    eventually("requests to be refused", async || (daemon.metric(&refused).await >= 100.0).then_some(()))
        .await;
    road.heal();

    let toll = load.everybody_is_served([daemon]).await;
    assert!(toll.unknowns <= 32, "more is unknown than was on its way: {toll:?}");
}

/// The token is good, and WeChat says that it is not: fetching anew changes nothing, and must not become a storm.
#[tokio::test]
async fn a_good_token_that_wechat_calls_bad_charges_nobody() {
    let load = Load::new().await;
    let daemon = load.daemon(&[]).await;
    load.begins().await;
    let fetched = load.world.wechat.token_fetches(APP).await;

    load.world.wechat.fault(json!({"match": {"path": "send"}, "action": {"errcode": 40001}})).await;
    let paused = format!(r#"wechat_notifier_app_paused{{app_id="{APP}",reason="token_rejected"}}"#);
    eventually("the app to be paused", async || (daemon.metric(&paused).await == 1.0).then_some(())).await;
    load.world.wechat.heal().await;

    load.world.all_ended(USERS.into()).await;
    let more = load.world.wechat.token_fetches(APP).await - fetched;
    assert!(more <= 10, "the lies made {more} fetches");
    assert_eq!(load.count("attempts > 3 OR event_id NOT LIKE 'retried-%' AND attempts > 1").await, 0);
    assert_eq!(load.everybody_is_served([daemon]).await, Toll::NOTHING);
}

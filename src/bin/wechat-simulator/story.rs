//! The simulator over real HTTP, as the daemon and the tests of the daemon see it.

mod stage;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use self::stage::Story;
use crate::world::Scenario;

#[tokio::test]
async fn a_send_is_accepted_with_a_message_id_beyond_a_float() {
    let story = Story::begin(json!({})).await;
    let answer = story.send(&story.token().await, "oA", "e1").await;
    assert_eq!((answer["errcode"].as_i64(), answer["errmsg"].as_str()), (Some(0), Some("ok")));
    assert!(answer["msgid"].as_u64().unwrap() > 1 << 53);
    let sent = story.ask("sent?full=1").await;
    assert_eq!(sent["users"][0]["last"]["page"], "p?id=e1");
    assert_eq!(sent["users"][0]["last"]["data"]["thing1"]["value"], "广州");
}

#[tokio::test]
async fn a_token_is_missing_malformed_unknown_or_gone() {
    let story = Story::begin(json!({})).await;
    assert_eq!(story.errcode("", "oA", "e1").await, 41001);
    assert_eq!(story.errcode("nonsense", "oA", "e1").await, 40014);
    assert_eq!(story.errcode(&"x".repeat(136), "oA", "e1").await, 40001);
    let token = story.token().await;
    story.tell("tokens/invalidate", json!({ "appid": "wxA" })).await;
    let refused = story.send(&token, "oA", "e1").await;
    assert_eq!(refused["errcode"], 40001);
    assert!(refused["errmsg"].as_str().unwrap().contains(" rid: "));
    assert_eq!(story.errcode(&story.token().await, "oA", "e1").await, 0);
}

#[tokio::test]
async fn the_two_interfaces_are_isolated_and_a_rotated_token_still_works() {
    let story = Story::begin(json!({})).await;
    let stable = story.token().await;
    let classic = story.get("/cgi-bin/token?grant_type=client_credential&appid=wxA&secret=s").await;
    assert_eq!(classic["expires_in"], 7200);
    assert_eq!(story.token().await, stable);
    story.tell("tokens/rotate", json!({ "appid": "wxA", "kind": "stable" })).await;
    assert_ne!(story.token().await, stable);
    assert_eq!(story.errcode(&stable, "oA", "e1").await, 0);
    let fetches = story.ask("stats").await["token_fetches"]["wxA"].clone();
    assert_eq!(fetches, json!({ "stable": 3, "classic": 1 }));
}

#[tokio::test]
async fn credentials_are_checked_for_registered_apps_and_strict_worlds() {
    let story = Story::begin(json!({ "strict": true, "apps": [{ "appid": "wxA", "secret": "s" }] })).await;
    assert_eq!(story.stable("wxA", "wrong").await["errcode"], 40125);
    assert_eq!(story.stable("wxB", "s").await["errcode"], 40013);
    assert_eq!(story.stable("wxA", "").await["errcode"], 41004);
    assert!(story.stable("wxA", "s").await["access_token"].is_string());
}

#[tokio::test]
async fn a_body_is_checked_as_the_platform_does() {
    let story = Story::begin(json!({})).await;
    assert_eq!(story.raw(Method::GET, "").await, 43002);
    assert_eq!(story.raw(Method::POST, "").await, 44002);
    assert_eq!(story.raw(Method::POST, "{").await, 47001);
    assert_eq!(story.raw(Method::POST, "{}").await, 40003);
    assert_eq!(story.raw(Method::POST, r#"{"touser":"oA"}"#).await, 40037);
    assert_eq!(story.raw(Method::POST, r#"{"touser":"oA","template_id":"T1","data":"{}"}"#).await, 47003);
}

#[tokio::test]
async fn consent_granted_in_every_app_counts_in_an_app_that_comes_later() {
    let story = Story::begin(json!({})).await;
    story.tell("consent", json!({ "openid": "oA", "template_id": "T1", "remaining": 1 })).await;
    let token = story.token().await;
    assert_eq!(story.errcode(&token, "oA", "e1").await, 0);
    assert_eq!(story.errcode(&token, "oA", "e2").await, 43101);
    assert_eq!(story.got("oA").await, 1);
}

#[tokio::test]
async fn a_second_send_to_the_same_user_conflicts_while_the_first_is_processed() {
    let story = Story::begin(json!({})).await;
    let token = story.token().await;
    story
        .tell("faults", json!({ "times": 1, "match": { "path": "send" }, "action": { "delay_ms": 400 } }))
        .await;
    let second = async {
        story.until("stats", |stats| stats["requests"]["send"] == 1).await;
        (story.errcode(&token, "oA", "e2").await, story.errcode(&token, "oB", "e3").await)
    };
    let (first, (same_user, other_user)) = tokio::join!(story.errcode(&token, "oA", "e1"), second);
    assert_eq!((first, same_user, other_user), (0, 43108, 0));
    assert_eq!(story.errcode(&token, "oA", "e2").await, 0);
    assert_eq!(story.ask("stats").await["concurrent_violations"], 1);
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_the_platform() {
    let story = Story::begin(json!({})).await;
    let token = story.token().await;
    story.tell("latency", json!({ "ms": 200, "appid": "wxA" })).await;
    let impatient = tokio::time::timeout(Duration::from_millis(50), story.try_send(&token, "oA", "e1")).await;
    assert!(impatient.is_err());
    story.until("sent", |sent| sent["total"] == 1).await;
}

#[tokio::test]
async fn a_reset_before_delivers_nothing_and_a_reset_after_delivers() {
    let story = Story::begin(json!({})).await;
    let token = story.token().await;
    story.tell("faults", json!({ "match": { "openid": "oA" }, "times": 1, "action": "reset" })).await;
    story
        .tell("faults", json!({ "match": { "openid": "oA" }, "times": 1, "action": "reset_after_send" }))
        .await;
    assert!(is_reset(&story.try_send(&token, "oA", "e1").await.unwrap_err()));
    assert_eq!(story.got("oA").await, 0);
    assert!(is_reset(&story.try_send(&token, "oA", "e1").await.unwrap_err()));
    assert_eq!(story.got("oA").await, 1);
    assert_eq!(story.errcode(&token, "oA", "e1").await, 0);
    let doubles = story.ask("doubles").await;
    assert_eq!((&doubles["surplus"], &doubles["doubles"][0]["times"]), (&json!(1), &json!(2)));
}

fn is_reset(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionReset)
        || error.source().is_some_and(is_reset)
}

#[tokio::test]
async fn a_proxy_in_between_answers_with_status_headers_and_html() {
    let story = Story::begin(json!({})).await;
    let token = story.token().await;
    let action = json!({ "http_status": 503, "body": "<html>", "headers": { "Retry-After": "3" } });
    story.tell("faults", json!({ "action": action })).await;
    let answer = story.try_send(&token, "oA", "e1").await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"].to_str().unwrap()), (503, &"3"));
    assert_eq!(answer.text().await.unwrap(), "<html>");
    assert_eq!(story.got("oA").await, 0);
}

#[tokio::test]
async fn any_errcode_can_be_had_on_demand_and_cleared() {
    let story = Story::begin(json!({})).await;
    let id = story
        .tell("faults", json!({ "match": { "path": "stable_token" }, "action": { "errcode": 40164 } }))
        .await;
    let refused = story.stable("wxA", "s").await["errmsg"].as_str().unwrap().to_owned();
    assert!(refused.starts_with("invalid ip 127.0.0.1 ipv6 ::ffff:127.0.0.1, not in whitelist rid: "));
    let url = format!("{}/_sim/faults/{}", story.base, id["id"]);
    story.client.delete(url).send().await.unwrap();
    assert!(story.stable("wxA", "s").await["access_token"].is_string());
}

#[tokio::test]
async fn a_slow_body_comes_whole_and_garbage_is_not_json() {
    let story = Story::begin(json!({})).await;
    let token = story.token().await;
    story.tell("faults", json!({ "times": 1, "action": { "slow_body_ms": 20 } })).await;
    assert_eq!(story.errcode(&token, "oA", "e1").await, 0);
    story.tell("faults", json!({ "times": 1, "action": "garbage" })).await;
    let garbage = story.try_send(&token, "oA", "e2").await.unwrap();
    assert!(garbage.json::<Value>().await.is_err());
    assert_eq!(story.got("oA").await, 2);
}

#[tokio::test]
async fn a_hanging_request_is_held_until_the_client_leaves() {
    let story = Story::begin(json!({})).await;
    let token = story.token().await;
    story.tell("faults", json!({ "action": { "hang": true, "deliver": true } })).await;
    let answer = tokio::time::timeout(Duration::from_millis(100), story.try_send(&token, "oA", "e1")).await;
    assert!(answer.is_err());
    assert_eq!(story.got("oA").await, 1);
    story.until("stats", |stats| stats["held"] == 0).await;
}

#[tokio::test]
async fn a_login_code_works_once_and_says_it_without_errcode() {
    let story =
        Story::begin(json!({ "codes": [{ "js_code": "c1", "openid": "oA", "unionid": "u1" }] })).await;
    let path = "/sns/jscode2session?appid=wxA&secret=s&grant_type=authorization_code&js_code=c1";
    let answer = story.client.get(format!("{}{path}", story.base)).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain");
    let session: Value = answer.json().await.unwrap();
    assert_eq!((&session["openid"], &session["unionid"]), (&json!("oA"), &json!("u1")));
    assert!(session.get("errcode").is_none() && session["session_key"].as_str().unwrap().len() == 24);
    assert_eq!(story.get(path).await["errcode"], 40163);
}

#[tokio::test]
async fn templates_are_listed_and_checked_once_registered() {
    let template = json!({ "template_id": "T2", "title": "t", "content": "a:{{thing1.DATA}}" });
    let story = Story::begin(json!({ "apps": [{ "appid": "wxA", "templates": [template] }] })).await;
    let token = story.token().await;
    let listed = story.get(&format!("/wxaapi/newtmpl/gettemplate?access_token={token}")).await;
    assert_eq!(listed["data"][0]["priTmplId"], "T2");
    assert_eq!(story.errcode(&token, "oA", "e1").await, 40037);
}

#[tokio::test]
async fn requests_are_told_in_order_with_what_was_answered() {
    let story = Story::begin(json!({})).await;
    let token = story.token().await;
    story.tell("faults", json!({ "match": { "openid": "oB" }, "action": { "errcode": -1 } })).await;
    story.send(&token, "oA", "e1").await;
    story.send(&token, "oB", "e2").await;
    let requests = story.ask("requests?path=send").await["requests"].clone();
    let told = |n: usize| {
        (requests[n]["openid"].clone(), requests[n]["errcode"].clone(), requests[n]["page"].clone())
    };
    assert_eq!(told(0), (json!("oA"), json!(0), json!("p?id=e1")));
    assert_eq!(told(1), (json!("oB"), json!(-1), json!("p?id=e2")));
    assert_eq!(requests[1]["fault"], "errcode");
    assert_eq!(story.ask("stats").await["sends_by_errcode"], json!({ "0": 1, "-1": 1 }));
}

#[tokio::test]
async fn a_reset_of_the_world_returns_to_the_start_or_to_another() {
    let story = Story::begin(json!({ "strict": true })).await;
    story.tell("reset", json!({ "latency_ms": 1 })).await;
    let old_token = story.token().await;
    story.client.post(format!("{}/_sim/reset", story.base)).send().await.unwrap();
    assert_eq!(story.errcode(&old_token, "oA", "e1").await, 40001);
    assert_eq!(story.stable("wxA", "s").await["errcode"], 40013);
}

#[test]
fn a_configuration_file_is_a_scenario() {
    let scenario: Scenario = toml::from_str(
        r#"
        strict = true
        latency_ms = 80
        [[apps]]
        appid = "wxA"
        secret = "s"
        templates = [{ template_id = "T1", content = "a:{{thing1.DATA}}" }]
        [[consents]]
        openid = "oA"
        template_id = "T1"
        remaining = 3
        [[faults]]
        match = { path = "send" }
        every = 100
        action = { http_status = 502, body = "<html>" }
        "#,
    )
    .unwrap();
    assert!(scenario.strict && scenario.faults.len() == 1 && scenario.consents[0].remaining == Some(3));
}

//! What WeChat can answer, code by code, on the real system: its class, and what becomes of the delivery.
//!
//! The table is taken from docs/WECHAT.md, not from the daemon's own table. Each answer has an app of its
//! own, so that none disturbs another.

use serde_json::{Value, json};

use crate::support::{APP, Daemon, Row, TEMPLATE, World, event, eventually};

/// An answer and what must come of it.
struct Case {
    /// The app, the user and the event, all of the same name.
    name: String,
    /// What the simulator is told to do.
    action: Value,
    /// How often it does so; `None`: until it is healed.
    times: Option<u64>,
    class: &'static str,
    /// WeChat's code, or `none` where no readable answer came.
    errcode: String,
}

impl Case {
    fn code(errcode: i64, class: &'static str) -> Self {
        Self::answer(&format!("code{errcode}"), json!({ "errcode": errcode }), class, &errcode.to_string())
    }

    /// No code at all.
    fn silence(name: &str, action: Value, class: &'static str) -> Self {
        Self::answer(name, action, class, "none")
    }

    fn answer(name: &str, action: Value, class: &'static str, errcode: &str) -> Self {
        Self { name: format!("wx-{name}"), action, times: None, class, errcode: errcode.to_owned() }
    }

    fn once(self) -> Self {
        Self { times: Some(1), ..self }
    }

    fn series(&self) -> String {
        let Self { name, class, errcode, .. } = self;
        format!(r#"wechat_notifier_attempts_total{{app_id="{name}",class="{class}",errcode="{errcode}"}}"#)
    }
}

fn codes(errcodes: &[i64], class: &'static str) -> Vec<Case> {
    errcodes.iter().map(|errcode| Case::code(*errcode, class)).collect()
}

const CONTENT: &[i64] = &[41030, 40165, 45168, 47003, 47001, 47002, 44002, 85107];
const RECIPIENTS: &[(i64, &str)] = &[(43101, "rejected"), (40003, "bad_openid")];
const TEMPLATE_CODES: &[i64] = &[40037, 43107];
const TOKEN: &[i64] = &[40001, 40014, 42001, 41001];
/// Of other APIs, of dead ones, or of no known source at all.
const UNLISTED: &[i64] = &[45047, 41028, 41029, 46101, 20000, 43116, 40258, 45169, 9_800_006, 40038, 99_999];
const APP_FAULTS: &[(i64, &str)] = &[
    (40013, "appid_wrong"),
    (41002, "appid_wrong"),
    (40125, "secret_wrong"),
    (41004, "secret_wrong"),
    (40243, "secret_frozen"),
    (40164, "ip_not_allowed"),
    (61004, "ip_not_allowed"),
    (89501, "ip_not_allowed"),
    (89503, "ip_not_allowed"),
    (89506, "ip_not_allowed"),
    (89507, "ip_not_allowed"),
    (48001, "not_authorised"),
    (61003, "not_authorised"),
    (61007, "not_authorised"),
    (48004, "app_banned"),
    (50002, "app_banned"),
    (50004, "app_banned"),
    (50007, "app_banned"),
    (40002, "api_misrouted"),
    (43002, "api_misrouted"),
    (43003, "api_misrouted"),
];

fn skip_reason(errcode: &str) -> &'static str {
    RECIPIENTS.iter().find(|(code, _)| code.to_string() == errcode).map_or("none", |(_, reason)| reason)
}

#[tokio::test]
async fn what_no_second_attempt_can_mend_ends_at_once_with_its_code() {
    let story = Story::begin([
        codes(CONTENT, "content"),
        codes(TEMPLATE_CODES, "template"),
        RECIPIENTS.iter().map(|(errcode, _)| Case::code(*errcode, "recipient")).collect(),
    ])
    .await;

    for case in &story.cases {
        let row = story.ended(case).await;
        let end = match case.class {
            "recipient" => format!("skipped:{}", skip_reason(&case.errcode)),
            class => format!("dead:{class}"),
        };
        assert_eq!((row.end(), row.attempts, row.epoch), (end, 1, 0), "{}", case.name);
        assert_eq!(row.errcode.unwrap().to_string(), case.errcode);
        let consent = if case.class == "recipient" { ("reject", Some(0)) } else { ("accept", None) };
        assert_eq!(story.consent(case).await, (consent.0.to_owned(), consent.1), "{}", case.name);
    }
    story.world.dead_letters_when(CONTENT.len() + TEMPLATE_CODES.len()).await;
    for case in story.cases.iter().filter(|case| case.class != "recipient") {
        story.dead_letter_tells_all(case).await;
    }
    story.conserved().await;
}

#[tokio::test]
async fn what_passes_is_ridden_out_and_charged_by_whose_fault_it_was() {
    let http = |status: u16, class| {
        let page = "<html><body><h1>It is not WeChat who speaks</h1></body></html>";
        let action = json!({ "http_status": status, "body": page });
        Case::silence(&format!("http{status}"), action, class)
    };
    let mut cases = codes(TOKEN, "token");
    cases.extend([Case::code(43108, "conflict"), Case::code(-1, "transient")]);
    cases.extend([500, 503, 429, 404, 403, 302].map(|status| http(status, "transient")));
    cases.extend([502, 504, 501].map(|status| http(status, "unknown")));
    cases.extend(
        ["reset", "reset_after_send", "hang", "garbage"]
            .map(|word| Case::silence(word, json!(word), "unknown")),
    );
    cases.push(Case::answer("slow", json!({ "slow_body_ms": 500 }), "sent", "0"));
    let story = Story::begin([cases.into_iter().map(Case::once).collect()]).await;

    for case in &story.cases {
        let row = story.ended(case).await;
        // Attempts charged, unknowns, epochs.
        let cost = match case.class {
            "transient" => (2, 0, 0),
            "unknown" => (2, 1, 1),
            _uncharged => (1, 0, 0),
        };
        assert_eq!(
            (row.end().as_str(), (row.attempts, row.unknowns, row.epoch)),
            ("sent", cost),
            "{}",
            case.name
        );
        assert_eq!(story.consent(case).await, ("accept".to_owned(), None), "{}", case.name);
    }
    assert_eq!(story.world.dead_letters().await, [""; 0]);
    story.conserved().await;
}

#[tokio::test]
async fn a_code_that_no_source_lists_gets_three_attempts_and_one_line_in_the_log() {
    let story = Story::begin([codes(UNLISTED, "transient")]).await;
    for case in &story.cases {
        let row = story.ended(case).await;
        assert_eq!((row.end().as_str(), row.attempts), ("dead:exhausted", 3), "{}", case.name);
        assert_eq!(story.told_of(&case.errcode), 1, "{} stands in the log each time", case.errcode);
    }
    story.conserved().await;
}

#[tokio::test]
async fn the_apps_own_trouble_pauses_it_charges_nobody_and_passes_by_itself() {
    let faulty = APP_FAULTS.iter().map(|(errcode, _)| Case::code(*errcode, "app_fault")).collect();
    let story = Story::begin([faulty]).await;
    let paused = |app: &str, reason: &str| {
        format!(r#"wechat_notifier_app_paused{{app_id="{app}",reason="{reason}"}}"#)
    };

    for (case, (_, reason)) in story.cases.iter().zip(APP_FAULTS) {
        let series = paused(&case.name, reason);
        eventually(&series, async || (story.daemon.metric(&series).await == 1.0).then_some(())).await;
        let row = story.world.row_when(&case.name, "deferred", |row| row.epoch >= 1).await;
        // "attempting" is the probe.
        assert!(matches!(row.status.as_str(), "retrying" | "attempting") && row.attempts == 0, "{row:?}");
    }
    assert!(story.daemon.log().contains(r#""ip":"127.0.0.1""#), "the blocked address is not in the log");
    story.a_healthy_app_goes_on().await;

    story.world.wechat.heal().await;
    for (case, (_, reason)) in story.cases.iter().zip(APP_FAULTS) {
        let row = story.ended(case).await;
        assert_eq!((row.end().as_str(), row.attempts, row.unknowns), ("sent", 1, 0), "{}", case.name);
        assert_eq!(
            story.daemon.metric(&paused(&case.name, reason)).await,
            0.0,
            "{} is still paused",
            case.name
        );
    }
    assert_eq!(story.world.dead_letters().await, [""; 0]);
    story.conserved().await;
}

#[tokio::test]
async fn a_used_up_quota_pauses_the_app_until_beijings_midnight() {
    let story = Story::begin([codes(&[45009], "quota")]).await;
    let case = &story.cases[0];
    let midnights = [midnight_in_beijing(), story.due_of(case).await, midnight_in_beijing()];
    assert!(midnights[0] <= midnights[1] && midnights[1] <= midnights[2], "{midnights:?}");
    assert_eq!(story.row(case).await.attempts, 0);
    let series = r#"wechat_notifier_app_paused{app_id="wx-code45009",reason="quota"}"#;
    assert_eq!(story.daemon.metric(series).await, 1.0);

    let more = (0..20).map(|n| event_of(&case.name).with("event_id", format!("more-{n}")));
    story.world.publish_all(more).await;
    story.a_healthy_app_goes_on().await;
    assert_eq!(story.daemon.metric(&case.series()).await, 1.0, "WeChat was asked again on the same day");
}

#[tokio::test]
async fn a_used_up_minute_pauses_the_app_until_the_next() {
    let story = Story::begin([codes(&[45011], "throttled").into_iter().map(Case::once).collect()]).await;
    let case = &story.cases[0];
    let due = story.due_of(case).await;
    assert_eq!((due.as_second() % 60, due.subsec_nanosecond()), (0, 0), "{due} is not the start of a minute");
    let row = story.ended(case).await;
    assert!(jiff::Timestamp::now() >= due, "sent before the minute was over");
    assert_eq!((row.end().as_str(), row.attempts), ("sent", 1));
    story.conserved().await;
}

#[tokio::test]
async fn two_processes_that_meet_at_one_user_ride_out_wechats_conflict() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    world.wechat.tell("latency", json!({ "ms": 30 })).await;
    let (_one, _other) = (world.daemon().await, world.daemon().await);

    let ids: Vec<String> = (0..40).map(|n| format!("meet-{n}")).collect();
    world.publish_all(ids.iter().map(|id| event(id).to(&["zhangsan"]))).await;

    world.all_ended(40).await;
    let conflicts = world.wechat.ask("stats").await["sends_by_errcode"]["43108"].as_i64().unwrap_or_default();
    assert!(conflicts > 0, "the two never met: this shows nothing");
    assert!(world.ledger().await.iter().all(|row| (row.end().as_str(), row.attempts) == ("sent", 1)));
    assert_eq!((world.wechat.got("o-zhang").await, world.conserved(ids).await), (40, 0));
}

#[tokio::test]
async fn a_wish_to_be_left_alone_lengthens_the_wait() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let _daemon = world.daemon_with(&[("RETRY__DELAYS", r#"["100ms", "1600ms"]"#)]).await;
    let busy = json!({ "http_status": 503, "headers": { "Retry-After": "1" } });
    world.wechat.fault(json!({ "match": { "path": "send" }, "times": 1, "action": busy })).await;

    world.publish(event("patient").to(&["zhangsan"])).await;

    let row = world.ended("patient").await;
    assert_eq!((row.end().as_str(), row.attempts, row.epoch), ("sent", 2, 1));
    let asked = world.wechat.ask("requests?path=send").await;
    let at = |n: usize| asked["requests"][n]["received_us"].as_u64().unwrap();
    assert!(at(1) - at(0) >= 1_000_000, "asked again after {} µs", at(1) - at(0));
}

#[tokio::test]
async fn a_wechat_that_cannot_be_reached_was_never_asked() {
    let mut world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    let daemon = world.daemon_with(&[("RETRY__DELAYS", r#"["100ms"]"#)]).await;
    world.publish(event("before").to(&["zhangsan"])).await;
    world.ended("before").await;

    world.wechat.kill();
    world.publish(event("unreachable").to(&["zhangsan"])).await;

    let row = world.ended("unreachable").await;
    assert_eq!((row.end().as_str(), row.unknowns, row.errcode), ("dead:exhausted", 0, None));
    let series =
        format!(r#"wechat_notifier_attempts_total{{app_id="{APP}",class="transient",errcode="none"}}"#);
    assert_eq!(daemon.metric(&series).await, f64::from(row.attempts));
    assert_eq!(world.dead_letters_when(1).await, ["exhausted"]);
}

/// Some cases, told to WeChat and published, one event each.
struct Story {
    world: World,
    daemon: Daemon,
    cases: Vec<Case>,
}

impl Story {
    async fn begin(groups: impl IntoIterator<Item = Vec<Case>>) -> Self {
        let world = World::new().await;
        world.user("healthy", "o-healthy").await;
        let cases: Vec<Case> = groups.into_iter().flatten().collect();
        for Case { name, action, times, .. } in &cases {
            world.app(name, "secret").await;
            world.user_of(name, name, name, &json!({ "status": "accept" })).await;
            let selector = json!({ "path": "send", "appid": name });
            world.wechat.fault(json!({ "match": selector, "times": times, "action": action })).await;
        }
        let daemon = world.daemon().await;
        world.publish_all(cases.iter().map(|case| event_of(&case.name))).await;
        Self { world, daemon, cases }
    }

    /// The row of a case once it is finished; by then its class has been counted.
    async fn ended(&self, case: &Case) -> Row {
        let row = self.world.ended(&case.name).await;
        assert!(self.daemon.metric(&case.series()).await >= 1.0, "no {}", case.series());
        row
    }

    async fn row(&self, case: &Case) -> Row {
        self.world.row_when(&case.name, "there", |_| true).await
    }

    /// What a delivery that was deferred waits for.
    async fn due_of(&self, case: &Case) -> jiff::Timestamp {
        self.world.row_when(&case.name, "deferred", |row| row.epoch == 1).await;
        let sql = "SELECT due_at FROM t_wechat_delivery WHERE event_id = $1";
        self.world.db.query_one(sql, &[&case.name]).await.unwrap().get(0)
    }

    /// Status and count of the user's consent.
    async fn consent(&self, case: &Case) -> (String, Option<i64>) {
        let sql = "SELECT subscribe_template -> $2 ->> 'status',
                          (subscribe_template -> $2 ->> 'remaining')::bigint
                     FROM t_wechat_user WHERE app_id = $1";
        let row = self.world.db.query_one(sql, &[&case.name, &TEMPLATE]).await.unwrap();
        (row.get(0), row.get(1))
    }

    /// Everything that a person needs to find the cause stands in the dead letter.
    async fn dead_letter_tells_all(&self, case: &Case) {
        let sql =
            "SELECT reason, errcode::text, field, attempts, template_id, recipient, rid <> '', errmsg <> ''
                     FROM t_wechat_dead_letter WHERE event_id = $1 AND app_id = $1";
        let dead_letter = self.world.db.query_one(sql, &[&case.name]).await.unwrap();
        let text = |column: usize| dead_letter.get::<_, Option<String>>(column).unwrap_or_default();
        let field = if case.errcode == "47003" { "thing1" } else { "" };
        assert_eq!([text(0), text(1), text(2)], [case.class, &case.errcode, field]);
        assert_eq!((dead_letter.get(3), text(4), text(5)), (1, TEMPLATE.to_owned(), case.name.clone()));
        assert_eq!(
            (dead_letter.get(6), dead_letter.get(7)),
            (Some(true), Some(true)),
            "rid and text of {}",
            case.name
        );
    }

    /// How many lines of the log ask somebody to act on this code.
    fn told_of(&self, errcode: &str) -> usize {
        let about = format!(r#""errcode":{errcode},"#);
        let asks = |line: &&str| line.contains(r#""level":"ERROR""#) && line.contains(&about);
        self.daemon.log().lines().filter(asks).count()
    }

    async fn a_healthy_app_goes_on(&self) {
        self.world.publish(event("healthy").to(&["healthy"])).await;
        assert_eq!(self.world.ended("healthy").await.end(), "sent");
    }

    async fn conserved(&self) {
        self.world.conserved(self.cases.iter().map(|case| case.name.clone())).await;
    }
}

fn event_of(name: &str) -> crate::support::EventBody {
    event(name).with("app_id", name).to(&[name])
}

fn midnight_in_beijing() -> jiff::Timestamp {
    let zone = jiff::tz::TimeZone::get("Asia/Shanghai").unwrap();
    jiff::Timestamp::now().to_zoned(zone).tomorrow().unwrap().start_of_day().unwrap().timestamp()
}

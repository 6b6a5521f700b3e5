//! `deliveries` and `dlq`: the ledger and the archive, told to an operator.

use serde_json::json;

use super::terminal::Terminal;

/// Event `pay-1` with a row for each fate, and a dead letter for the dead one.
async fn terminal_with_a_story() -> Terminal {
    let terminal = Terminal::new().await;
    let client = terminal.scratch.client().await;
    client
        .simple_query(
            "INSERT INTO t_wechat_delivery
                    (company_no, app_id, template_id, event_id, recipient, openid, sys_user_id, status, reason, errcode,
                     msgid, attempts, unknowns, due_at, content_hash, created_at, settled_at)
             VALUES ('C001', 'wx1', 'T1', 'pay-1', 'oZHANGSAN1', 'oZHANGSAN1', 'zhangsan', 'sent', NULL, 0,
                     1988810812324364291, 1, 1, NULL, '', now(), now()),
                    ('C001', 'wx1', 'T1', 'pay-1', '@lisi', NULL, 'lisi', 'skipped', 'not_bound', NULL,
                     NULL, 0, 0, NULL, '', now(), now()),
                    ('C001', 'wx1', 'T1', 'pay-1', 'oWANGWU123', 'oWANGWU123', 'wangwu', 'dead', 'content', 47003,
                     NULL, 1, 0, NULL, '', now(), now()),
                    ('C001', 'wx1', 'T1', 'pay-1', 'oZHAOLIU12', 'oZHAOLIU12', NULL, 'retrying', NULL, -1,
                     NULL, 2, 0, '2026-01-02T03:04:05Z', '', now() - interval '1 h', now() - interval '1 h'),
                    ('C001', 'wx1', 'T1', 'pay-2', 'oZHANGSAN1', 'oZHANGSAN1', 'zhangsan', 'sent', NULL, 0,
                     NULL, 1, 0, NULL, '', now() - interval '2 h', now());
             INSERT INTO t_wechat_dead_letter
                    (identity, reason, errcode, field, app_id, template_id, company_no, event_id, recipient, openid,
                     fingerprint, body, headers)
             VALUES ('l1', 'content', 47003, 'thing2', 'wx1', 'T1', 'C001', 'pay-1', 'oWANGWU123', 'oWANGWU123',
                     'f1', '{\"openid\":\"oWANGWU123\"}', '{\"x-wn-epoch\": 0}'),
                    ('l2', 'malformed', NULL, 'app_id', NULL, NULL, NULL, 'pay-9', NULL, NULL, 'f2', 'x', '{}')",
        )
        .await
        .unwrap();
    terminal.ok("rule add --company C001 --app-id wx1 --template-id T1 --sys-users zhangsan,lisi");
    terminal
}

#[tokio::test]
async fn a_listing_is_narrowed_and_masked() {
    let terminal = terminal_with_a_story().await;
    let count = |line: &str| terminal.json(line).as_array().unwrap().len();
    assert_eq!(count("deliveries list"), 5);
    assert_eq!(count("deliveries list --event pay-1 --status sent"), 1);
    assert_eq!(count("deliveries list --reason not_bound --app wx1"), 1);
    assert_eq!(count("deliveries list --user zhangsan"), 2);
    assert_eq!(count("deliveries list --user zhangsan --since 90m"), 1);
    assert_eq!(count("deliveries list --limit 2"), 2);
    assert_eq!(count("deliveries list --company C002"), 0);
    assert_eq!(terminal.run("deliveries list --status gone").code, 2);

    let sent = &terminal.json("deliveries list --event pay-1 --status sent")[0];
    assert_eq!((&sent["recipient"], &sent["msgid"]), (&json!("oZHANG…"), &json!("1988810812324364291")));
    assert!(!terminal.ok("deliveries list").contains("oZHANGSAN1"));
    assert!(terminal.ok("deliveries list --full").contains("oZHANGSAN1"));
}

#[tokio::test]
async fn stranded_are_those_that_nothing_has_moved_for_long() {
    let terminal = terminal_with_a_story().await;
    let stranded = terminal.json("deliveries list --stranded --full");
    assert_eq!(stranded.as_array().unwrap().len(), 1);
    assert_eq!(stranded[0]["recipient"], "oZHAOLIU12");
}

#[tokio::test]
async fn why_tells_every_recipient_s_story() {
    let terminal = terminal_with_a_story().await;
    let told = terminal.ok("deliveries why pay-1");
    for expected in [
        "1 dead, 1 retrying, 1 sent, 1 skipped",
        "zhangsan (oZHANG…): sent at",
        "the outcome of 1 attempt is unknown",
        "matched by rule 1 (changed after this delivery was planned) now, unless the event named its recipients itself",
        "lisi: skipped",
        "not_bound",
        "WeChat answered 47003",
        "dead letter 1 (open)",
        "waiting for its next attempt, due 2026-01-02 03:04:05Z, after 2 attempts",
    ] {
        assert!(told.contains(expected), "`{expected}` is missing in:\n{told}");
    }
    assert!(!told.contains("oZHANGSAN1") && !told.contains("pay-2"), "{told}");
    assert!(terminal.ok("deliveries why pay-9").contains("malformed, field app_id"));
    assert_eq!(terminal.run("deliveries why pay-unheard-of").code, 3);
}

#[tokio::test]
async fn why_tells_why_somebody_has_no_delivery() {
    let terminal = terminal_with_a_story().await;
    let why = |user: &str| terminal.ok(&format!("deliveries why pay-1 --user {user}"));
    assert!(why("lisi").contains("not_bound") && !why("lisi").contains("zhangsan"));

    let told = why("sunqi");
    assert!(told.contains("No rule") && told.contains("is bound to sunqi"), "{told}");
    assert!(
        told.contains("1 dead, 1 retrying, 1 sent, 1 skipped"),
        "the event's own story stays whole: {told}"
    );
    terminal.ok("rule add --company C001 --app-id wx1 --template-id T1 --sys-users sunqi");
    terminal.ok("user bind --app-id wx1 --openid oSUNQI1234 --sys-user sunqi --accept T1:0");
    let told = why("sunqi");
    assert!(told.contains("quota_used") && !told.contains("No rule"), "{told}");
    terminal.ok("user bind --app-id wx1 --openid oSUNQI1234 --accept T1");
    assert!(why("sunqi").contains("they would get it"));
}

#[tokio::test]
async fn a_dead_letter_is_found_by_its_facts_and_shown_without_naming_people() {
    let terminal = terminal_with_a_story().await;
    let ids = |line: &str| {
        let dead_letters = terminal.json(line);
        dead_letters
            .as_array()
            .unwrap()
            .iter()
            .map(|dead_letter| dead_letter["id"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("dlq list"), [2, 1]);
    assert_eq!(ids("dlq list --reason content --app wx1 --template T1 --event pay-1 --errcode 47003"), [1]);
    assert_eq!(ids("dlq list --since 1h --id 2"), [2]);
    assert!(ids("dlq list --until 1h").is_empty());

    assert!(!terminal.ok("dlq show 1").contains("oWANGWU123"));
    let shown = terminal.json("dlq show 1 --full");
    assert_eq!(
        (&shown["body"], &shown["headers"]["x-wn-epoch"]),
        (&json!("{\"openid\":\"oWANGWU123\"}"), &json!(0))
    );
    assert_eq!(terminal.run("dlq show 99").code, 3);
}

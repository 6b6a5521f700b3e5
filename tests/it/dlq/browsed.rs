//! `dlq groups`, `list`, `show`, `export`.

use serde_json::{Value, json};

use crate::cli::terminal::Terminal;

/// Four dead letters: two of one trouble, the second of them resolved and of a delivery that died twice; a timeout; and bytes.
pub async fn terminal_with_dead_letters() -> Terminal {
    let terminal = Terminal::new().await;
    let client = terminal.scratch.client().await;
    client
        .simple_query(
            "INSERT INTO t_wechat_delivery
                    (company_no, app_id, template_id, event_id, recipient, openid, sys_user_id, status, reason, errcode,
                     attempts, epoch, content_hash, settled_at)
             VALUES ('C001', 'wx1', 'T1', 'pay-1', 'oWANGWU123', 'oWANGWU123', 'wangwu', 'dead', 'content', 47003,
                     2, 1, '', now());
             INSERT INTO t_wechat_dead_letter
                    (identity, reason, class, errcode, field, app_id, template_id, company_no, event_id, recipient, openid,
                     sys_user_id, epoch, fingerprint, body, headers, state, archived_at)
             VALUES ('l1', 'content', 'content', 47003, 'thing2', 'wx1', 'T1', 'C001', 'pay-1', 'oWANGWU123', 'oWANGWU123',
                     'wangwu', 0, 'aa11', '{\"data\": {\"thing2\": {\"value\": \"for Wang Wu\"}}, \"openids\": [\"oWANGWU123\"]}',
                     '{\"x-wn-epoch\": 0}', 'resolved', now() - interval '3 d'),
                    ('l2', 'content', 'content', 47003, 'thing2', 'wx1', 'T1', 'C001', 'pay-1', 'oWANGWU123', 'oWANGWU123',
                     'wangwu', 1, 'aa11', '{}', '{}', 'open', now() - interval '2 d'),
                    ('l3', 'unknown_outcome', 'unknown', NULL, NULL, 'wx2', 'T2', 'C002', 'pay-2', 'oLISI12345', 'oLISI12345',
                     'lisi', 0, 'bb22', '{}', '{}', 'open', now()),
                    ('l4', 'malformed', NULL, NULL, 'app_id', NULL, NULL, NULL, NULL, NULL, NULL,
                     NULL, NULL, 'cc33', '\\xff00', '{}', 'open', now())",
        )
        .await
        .unwrap();
    terminal
}

pub fn ids(terminal: &Terminal, line: &str) -> Vec<i64> {
    let dead_letters = terminal.json(line);
    dead_letters.as_array().unwrap().iter().map(|dead_letter| dead_letter["id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn every_part_of_the_filter_narrows() {
    let terminal = terminal_with_dead_letters().await;
    for (filter, expected) in [
        ("", vec![4, 3, 2, 1]),
        ("--id 1 --id 3", vec![3, 1]),
        ("--reason content", vec![2, 1]),
        ("--class unknown", vec![3]),
        ("--app wx2", vec![3]),
        ("--company C001", vec![2, 1]),
        ("--template T2", vec![3]),
        ("--errcode 47003 --state open", vec![2]),
        ("--field app_id", vec![4]),
        ("--event pay-2", vec![3]),
        ("--user wangwu", vec![2, 1]),
        ("--user oLISI12345", vec![3]),
        ("--group AA", vec![2, 1]),
        ("--group aa11 --state resolved", vec![1]),
        ("--since 1d", vec![4, 3]),
        ("--since 60h --until 1d", vec![2]),
        ("--state purged", vec![]),
    ] {
        assert_eq!(ids(&terminal, &format!("dlq list {filter}")), expected, "{filter}");
    }
    for wrong in ["--reason lost", "--class odd", "--group g%", "--state gone", "--since yesterday"] {
        assert_eq!(terminal.run(&format!("dlq list {wrong}")).code, 2, "{wrong}");
    }
}

#[tokio::test]
async fn pages_meet_without_a_gap() {
    let terminal = terminal_with_dead_letters().await;
    assert_eq!(ids(&terminal, "dlq list --limit 3"), [4, 3, 2]);
    assert_eq!(ids(&terminal, "dlq list --limit 3 --after 2"), [1]);
    assert!(terminal.run("dlq list --limit 3").stderr.contains("--after 2"));
}

#[tokio::test]
async fn groups_put_one_trouble_together_and_say_what_to_do() {
    let terminal = terminal_with_dead_letters().await;
    let client = terminal.scratch.client().await;
    // The open one is the older.
    let swap =
        "UPDATE t_wechat_dead_letter SET state = CASE id WHEN 1 THEN 'open' ELSE 'resolved' END WHERE id < 3";
    client.execute(swap, &[]).await.unwrap();
    let groups = terminal.json("dlq groups");
    let names: Vec<_> = groups.as_array().unwrap().iter().map(|group| &group["fingerprint"]).collect();
    assert_eq!(names, ["cc33", "bb22", "aa11"], "as many open ones: the newest first");
    let content = &groups[2];
    assert_eq!(
        (&content["dead_letters"], &content["example"]),
        (&json!(2), &json!(1)),
        "the example is open"
    );
    assert_eq!(content["states"], json!({ "open": 1, "resolved": 1 }));
    assert_eq!(content["runbook"]["see"], "docs/OPERATING.md#reason-content");
    assert!(content["first_seen"].as_str() < content["last_seen"].as_str());

    let told = terminal.ok("dlq groups --state open");
    for expected in [
        "aa11",
        "1 open",
        "thing2",
        "WeChat refuses the value of a field",
        "timed out or the connection broke",
        "safe to do:",
    ] {
        assert!(told.contains(expected), "`{expected}` is missing in:\n{told}");
    }
}

#[tokio::test]
async fn show_tells_the_dead_letter_s_story_without_naming_people() {
    let terminal = terminal_with_dead_letters().await;
    terminal.ok("dlq resolve --id 2 --why nobody-asks");
    let told = terminal.ok("dlq show 2");
    for expected in [
        "wangwu (oWANGW…): dead at",
        "Dead letter 1 (resolved)",
        "resolved by",
        "nobody-asks",
        "have it fixed there",
        "#reason-content",
    ] {
        assert!(told.contains(expected), "`{expected}` is missing in:\n{told}");
    }

    let told = terminal.ok("dlq show 1");
    assert!(
        told.contains("… (11 characters)") && !told.contains("for Wang Wu") && !told.contains("oWANGWU123"),
        "{told}"
    );
    let told = terminal.ok("dlq show 1 --full");
    assert!(told.contains("\"value\": \"for Wang Wu\"") && told.contains("x-wn-epoch"), "{told}");

    let shown = terminal.json("dlq show 2 --full");
    assert_eq!(
        (&shown["delivery"]["recipient"], &shown["other_dead_letters"][0]["id"]),
        (&json!("oWANGWU123"), &json!(1))
    );
    assert_eq!(shown["actions"][0]["action"], "resolved");
    assert_eq!(terminal.json("dlq show 4 --full")["body_base64"], "/wA=", "bytes are kept");
    assert!(terminal.ok("dlq show 4").contains("it has no row"));
}

#[tokio::test]
async fn export_writes_a_line_a_dead_letter_and_never_over_a_file() {
    let terminal = terminal_with_dead_letters().await;
    let lines: Vec<Value> =
        terminal.ok("dlq export --full").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["id"].as_i64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!((&lines[1]["body"], &lines[3]["body_base64"]), (&json!("{}"), &json!("/wA=")));
    assert!(!terminal.ok("dlq export").contains("oWANGWU123"));

    let file = std::env::temp_dir().join(format!("dead_letters-{}.jsonl", std::process::id()));
    let line = format!("dlq export --reason content --output {}", file.display());
    terminal.ok(&line);
    let again = terminal.run(&line);
    let written = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!((written.lines().count(), again.code), (2, 1), "{again:?}");
    assert_eq!(terminal.run("dlq export --event none").code, 3);
}

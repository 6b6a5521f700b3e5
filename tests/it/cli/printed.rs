//! What other systems sent cannot act on an operator's terminal, whichever command shows it.

use std::process::Command;

use serde_json::{Value, json};

use super::terminal::Terminal;

/// Clears the screen, rings, forges a line, colours by C1, changes the direction of text, and is invisible.
const ODD: &str = "\u{1b}[2J\u{7}\r\nforged: line\u{9b}1m\u{202e}\u{200b}x";

impl Terminal {
    /// Everything that is shown anywhere, with [`ODD`] wherever a text from outside can stand.
    async fn with_odd_texts() -> Self {
        let terminal = Self::new().await;
        let client = terminal.scratch.client().await;
        let consents = json!({ ODD: { "status": ODD, "remaining": 1 } });
        for statement in [
            "INSERT INTO t_wechat_app (app_id, app_name, company_no, app_secret, token_api, status)
             VALUES ($1, $1, $1, $1, 'stable', 0)",
            "INSERT INTO t_wechat_pause (app_id, template_id, process, reason, detail, operator)
             VALUES ($1, $1, '', 'by_hand', $1, $1)",
            "INSERT INTO t_wechat_message_user (company_no, app_id, template_id, customer_id, sys_user_ids, openids)
             VALUES ($1, $1, $1, $1, ARRAY[$1], ARRAY[$1])",
            "INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, sys_user_id,
                                            status, reason, errcode, errmsg, rid, receipt, content_hash, trace_id)
             VALUES ($1, $1, $1, 'pay-1', $1, $1, $1, 'dead', $1, 47003, $1, $1, $1, '', $1)",
            "INSERT INTO t_wechat_dead_letter (identity, reason, class, errcode, errmsg, field, app_id, template_id,
                                               company_no, event_id, recipient, openid, sys_user_id, fingerprint, rid,
                                               trace_id, body, headers)
             VALUES ($1, 'content', $1, 1, $1, $1, $1, $1, $1, 'pay-1', $1, $1, $1, $1, $1, $1,
                     convert_to($1, 'UTF8'), jsonb_build_object($1::text, $1::text))",
            "INSERT INTO t_wechat_dead_letter (identity, reason, errmsg, app_id, event_id, fingerprint, body)
             VALUES ('two', $1, $1, $1, $1, 'f', convert_to(json_build_object($1::text, $1::text)::text, 'UTF8'))",
        ] {
            client.execute(statement, &[&ODD]).await.unwrap();
        }
        let user = "INSERT INTO t_wechat_user (app_id, openid, sys_user_id, username, subscribe_template)
                    VALUES ($1, 'o1', 'zhangsan', $1, $2)";
        client.execute(user, &[&ODD, &consents]).await.unwrap();
        terminal
    }

    /// Both outputs of a command.
    fn shown(&self, arguments: &[&str]) -> (String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_wechat-notifier"))
            .args(arguments)
            .env("DATABASE_URL", self.scratch.url())
            .current_dir(std::env::temp_dir())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }
}

fn is_plain(shown: &str) -> bool {
    !shown.chars().any(|c| c != '\n' && (c.is_control() || matches!(c, '\u{202e}' | '\u{200b}')))
        && !shown.lines().any(|line| line.starts_with("forged"))
}

const LISTINGS: [&[&str]; 11] = [
    &["app", "list"],
    &["user", "show", "zhangsan"],
    &["rule", "list", "--full"],
    &["deliveries", "list", "--full"],
    &["deliveries", "why", "pay-1"],
    &["deliveries", "why", "pay-1", "--user", "zhangsan"],
    &["dlq", "list", "--full"],
    &["dlq", "groups"],
    &["dlq", "show", "1"],
    &["dlq", "show", "2"],
    &["dlq", "replay", "--dry-run"],
];

#[tokio::test]
async fn nothing_that_is_shown_acts_on_the_terminal() {
    let terminal = Terminal::with_odd_texts().await;
    let odd = ODD.replace(['\r', '\n'], "");
    let errors: [&[&str]; 4] = [
        &["deliveries", "why", &odd],
        &["dlq", "list", "--reason", &odd],
        &["publish", &odd],
        &["app", "set", "--app-id", &odd],
    ];
    for line in LISTINGS.into_iter().chain(errors) {
        let (stdout, stderr) = terminal.shown(line);
        assert!(is_plain(&stdout) && is_plain(&stderr), "{line:?}: {stdout:?} {stderr:?}");
        assert!(
            format!("{stdout}{stderr}").contains(r"\u{1b}[2J"),
            "{line:?} shows it not at all: {stdout} {stderr}"
        );
    }
    // The body is the last thing shown, and the only one with lines of its own.
    let (stdout, _) = terminal.shown(&["dlq", "show", "1", "--full"]);
    let (facts, body) = stdout.split_once("Body (").unwrap();
    assert!(is_plain(facts) && !body.contains(['\u{1b}', '\r', '\u{9b}', '\u{202e}']), "{stdout:?}");
}

#[tokio::test]
async fn json_is_as_plain_and_says_the_same() {
    let terminal = Terminal::with_odd_texts().await;
    for line in LISTINGS {
        let (stdout, stderr) = terminal.shown(&[line, &["--json"]].concat());
        assert!(is_plain(&stdout), "{line:?}: {stdout:?}");
        let _: Value =
            serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{line:?}: {stdout} {stderr}"));
    }
    let app: Value = serde_json::from_str(&terminal.shown(&["app", "list", "--json"]).0).unwrap();
    assert_eq!(app[0]["app_name"], ODD);
    let (stdout, _) = terminal.shown(&["dlq", "export", "--full"]);
    assert!(is_plain(&stdout), "{stdout:?}");
    let exported: Value = serde_json::from_str(stdout.lines().next().unwrap()).unwrap();
    assert_eq!(exported["body"], ODD);
}

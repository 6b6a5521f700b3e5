//! Dead letters brought back: what goes out, what does not, and what the account says of it.

mod account;
mod canary;
mod cancelled;
mod corrected;
mod kills;
mod large;
mod operators;
mod refusals;

use serde_json::Value;

use crate::support::{APP, COMPANY, TEMPLATE, World, eventually};

/// A world with this many users, `user-1` bound to `openid-1` and so on, each with a dead delivery of his own event,
/// `pay-1` and so on, and its dead_letter: WeChat had refused the content.
async fn world_with_dead_letters(count: i32) -> World {
    let world = World::new().await;
    world.crowd(count).await;
    dead_letters(&world, 1, count).await;
    world
}

/// Dead deliveries and dead letters as a daemon would have left them, for users `first` to `last`.
async fn dead_letters(world: &World, first: i32, last: i32) {
    const ROWS: &str = "
        INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, sys_user_id, status,
                                       reason, errcode, attempts, content_hash, settled_at)
        SELECT $1, $2, $3, 'pay-' || n, 'openid-' || n, 'openid-' || n, 'user-' || n, 'dead', 'content', 47003, 1, '', now()
          FROM generate_series($4::int, $5::int) n";
    const DEAD_LETTERS: &str = r#"
        INSERT INTO t_wechat_dead_letter (identity, reason, class, errcode, field, company_no, app_id, template_id, event_id,
                                          recipient, openid, sys_user_id, epoch, attempts, last_failed_at, fingerprint, body,
                                          headers)
        SELECT 'dead_letter-' || n, 'content', 'content', 47003, 'amount2', $1, $2, $3, 'pay-' || n, 'openid-' || n,
               'openid-' || n, 'user-' || n, 0, 1, now(), 'abc123',
               convert_to(jsonb_build_object(
                   'recipient', jsonb_build_object('openid', 'openid-' || n, 'sys_user_id', 'user-' || n),
                   'event_id', 'pay-' || n,
                   'expires_at', to_char(now() + interval '1 day', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                   'event', jsonb_build_object(
                       'event_id', 'pay-' || n, 'company_no', $1::text, 'app_id', $2::text, 'template_id', $3::text,
                       'data', jsonb_build_object('character_string1', 'pay-' || n, 'amount2', '1')))::text, 'UTF8'),
               '{"x-wn-version": 1, "x-wn-epoch": 0, "x-wn-reason": "content"}'
          FROM generate_series($4::int, $5::int) n"#;
    for statement in [ROWS, DEAD_LETTERS] {
        world.db.execute(statement, &[&COMPANY, &APP, &TEMPLATE, &first, &last]).await.unwrap();
    }
}

/// Runs `dlq replay` with these arguments and `--json`, whatever comes of it: its exit code, and what it printed.
async fn replay(world: &World, arguments: &str) -> (i32, Value) {
    let line = format!("dlq replay {arguments} --json");
    let output = world.command(&words(&line)).await;
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().unwrap_or_else(|| panic!("`{line}` was killed: {said}"));
    println!("{line}: {code}\n{said}");
    (code, serde_json::from_slice(&output.stdout).unwrap_or_default())
}

/// Everything that is open, without a question.
const ALL: &str = "--why corrected --yes --rate 1000";

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The account of a replay, once none of its dead letters is on its way any more.
async fn settled(world: &World, replay: i64) -> Value {
    let id = replay.to_string();
    eventually("the replay's outcomes", async || {
        let said = world.cli(&["dlq", "replay", "--status", &id, "--json"]).await;
        let account: Value = serde_json::from_str(&said).unwrap();
        let open = ["pending", "in_progress"].iter().all(|word| account["outcomes"][word].is_null());
        open.then_some(account)
    })
    .await
}

/// How many dead letters are in which state, as `open: 2, replayed: 3`.
async fn states(world: &World) -> String {
    const STATES: &str = "SELECT coalesce(string_agg(state || ': ' || n, ', ' ORDER BY state), '')
                            FROM (SELECT state, count(*) AS n FROM t_wechat_dead_letter GROUP BY state) s";
    world.db.query_one(STATES, &[]).await.unwrap().get(0)
}

/// Waits for the dead letters to be in these states.
async fn states_when(world: &World, expected: &str) {
    eventually(&format!("dead letters to be {expected}"), async || {
        (states(world).await == expected).then_some(())
    })
    .await;
}

/// Each of the first `count` users has his message, once.
async fn everybody_has_his_message(world: &World, count: i64) {
    assert_eq!(world.wechat.got_by_all().await, count);
    assert_eq!(world.wechat.doubles().await, 0);
    let ends = world.ends().await;
    assert_eq!(ends.get("sent"), Some(&count), "{ends:?}");
}

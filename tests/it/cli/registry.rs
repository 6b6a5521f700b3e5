//! `migrate`, `app`, `rule`, `user`.

use serde_json::json;

use super::terminal::Terminal;
use crate::scratch::Scratch;

#[tokio::test]
async fn migrate_says_what_it_did_and_what_is_missing() {
    let terminal = Terminal { scratch: Scratch::new().await };
    assert_eq!(terminal.run("migrate --status").code, 3);
    assert!(terminal.ok("migrate").starts_with("applied 1 tables\napplied 2 pauses\n"));
    assert_eq!(terminal.ok("migrate"), "nothing to apply\n");
    assert_eq!(terminal.run("migrate --status").code, 0);
}

#[tokio::test]
async fn an_app_is_registered_with_a_secret_that_is_never_shown() {
    let terminal = Terminal::new().await;
    let refused = terminal.run("app add --app-id wx1 --name Shop");
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("--secret-file"), "{refused:?}");

    let added =
        terminal.run_with("app add --app-id wx1 --name Shop --company C001 --secret-stdin", "topsecret\n");
    assert_eq!(added.code, 0, "{added:?}");
    let app = &terminal.json("app list")[0];
    assert_eq!(app["company_no"], "C001");
    assert_eq!(app["has_secret"], true);
    assert!(!terminal.ok("app list").contains("topsecret"));

    let client = terminal.scratch.client().await;
    let stored = client.query_one("SELECT app_secret FROM t_wechat_app", &[]).await.unwrap();
    assert_eq!(
        stored.get::<_, &str>(0),
        "topsecret",
        "the line break of the input is not part of the secret"
    );
}

#[tokio::test]
async fn an_app_keeps_what_set_does_not_name() {
    let terminal = Terminal::new().await;
    terminal.run_with("app add --app-id wx1 --name Shop --rate-per-second 50 --secret-stdin", "s1");
    terminal.ok("app set --app-id wx1 --daily-quota 1000 --token-api classic --disable");

    let app = &terminal.json("app list")[0];
    assert_eq!(
        (&app["app_name"], &app["rate_per_second"], &app["daily_quota"], &app["token_api"], &app["active"]),
        (&json!("Shop"), &json!(50), &json!(1000), &json!("classic"), &json!(false))
    );
    terminal.ok("app set --app-id wx1 --rate-per-second 0 --enable");
    assert_eq!(terminal.json("app list")[0]["rate_per_second"], json!(null), "zero lifts a limit");

    assert_eq!(terminal.run("app set --app-id wx2 --name None").code, 3);
    assert_eq!(
        terminal.run_with("app add --app-id wx1 --secret-stdin", "s2").code,
        1,
        "an app is added once"
    );
}

#[tokio::test]
async fn a_secret_cannot_be_an_argument() {
    let terminal = Terminal::new().await;
    assert_eq!(terminal.run("app add --app-id wx1 --secret s").code, 2);
    assert_eq!(terminal.run("app add --app-id wx1 --app-secret s").code, 2);
}

#[tokio::test]
async fn rules_are_added_found_by_whom_they_name_and_removed() {
    let terminal = Terminal::new().await;
    let add = "rule add --company C001 --app-id wx1 --template-id T1";
    assert_eq!(terminal.run(add).code, 2, "a rule names somebody");
    terminal.ok(&format!("{add} --sys-users zhangsan,lisi --customer M100"));
    terminal.ok(&format!("{add} --openids oABCDEFGHIJ"));

    let rules = terminal.json("rule list --user lisi");
    assert_eq!(rules.as_array().unwrap().len(), 1);
    assert_eq!(rules[0]["sys_user_ids"], json!(["zhangsan", "lisi"]));
    assert_eq!(terminal.json("rule list")[1]["openids"], json!(["oABCDE…"]), "openids are masked");
    assert_eq!(terminal.json("rule list --full")[1]["openids"], json!(["oABCDEFGHIJ"]));

    terminal.ok(&format!("rule remove {}", rules[0]["id"]));
    assert_eq!(terminal.run(&format!("rule remove {}", rules[0]["id"])).code, 3);
    assert_eq!(terminal.json("rule list").as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_binding_collects_consents_and_keeps_the_rest() {
    let terminal = Terminal::new().await;
    terminal.ok("user bind --app-id wx1 --openid oABCDEFGHIJ --sys-user zhangsan --accept T1:2 --reject T2");
    terminal.ok("user bind --app-id wx1 --openid oABCDEFGHIJ --accept T3");

    let users = terminal.json("user show zhangsan");
    let consents = &users[0]["subscribe_template"];
    assert_eq!((&consents["T1"]["status"], &consents["T1"]["remaining"]), (&json!("accept"), &json!(2)));
    assert_eq!(consents["T2"]["status"], "reject");
    assert_eq!((&consents["T3"]["status"], &consents["T3"]["remaining"]), (&json!("accept"), &json!(null)));
    assert_eq!(users[0]["sys_user_id"], "zhangsan", "a binding without a user keeps the one it had");
    assert_eq!(users[0]["openid"], "oABCDE…");
    assert_eq!(terminal.json("user show --openid oABCDEFGHIJ"), users);
    assert_eq!(terminal.run("user show nobody").code, 3);
}

#[tokio::test]
async fn an_identifier_that_cannot_be_one_is_wrong_usage() {
    let terminal = Terminal::new().await;
    let long = "x".repeat(129);
    assert_eq!(terminal.run(&format!("user bind --app-id wx1 --openid {long}")).code, 2);
    assert_eq!(terminal.run("user bind --app-id wx1 --openid oA --accept T1:many").code, 2);
}

#[tokio::test]
async fn every_command_says_how_it_is_used() {
    let terminal = Terminal::new().await;
    assert!(terminal.ok("--help").contains("Exit codes"));
    for command in [
        "migrate",
        "app add",
        "app list",
        "app set",
        "app pause",
        "app resume",
        "app seal",
        "rule add",
        "rule list",
        "rule remove",
        "user bind",
        "user show",
        "deliveries list",
        "deliveries why",
        "dlq list",
        "dlq show",
        "token show",
        "token refresh",
        "publish",
        "check",
    ] {
        assert!(terminal.ok(&format!("{command} --help")).contains("Example:"), "{command} shows no example");
    }
}

#[tokio::test]
async fn rules_are_listed_page_by_page_and_a_page_is_bounded() {
    let terminal = Terminal::new().await;
    let client = terminal.scratch.client().await;
    client
        .batch_execute(
            "INSERT INTO t_wechat_message_user (company_no, app_id, template_id, sys_user_ids)
             SELECT 'C001', 'wx1', 'T1', CASE n WHEN 6 THEN array_fill('user'::text, ARRAY[25000]) ELSE '{user}' END
               FROM generate_series(1, 8) n",
        )
        .await
        .unwrap();
    let ids = |line: &str| -> Vec<i64> {
        let rules = terminal.json(line);
        rules.as_array().unwrap().iter().map(|rule| rule["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(ids("rule list --limit 3"), [1, 2, 3]);
    assert_eq!(ids("rule list --limit 3 --after 3"), [4, 5, 6]);
    // The sixth names more people than a page holds: it is shown, and ends the page.
    assert_eq!(ids("rule list"), [1, 2, 3, 4, 5, 6]);
    assert_eq!(ids("rule list --after 6"), [7, 8]);
    assert!(terminal.run("rule list").stderr.contains("--after 6"));
    assert!(!terminal.run("rule list --after 6").stderr.contains("--after"));
}

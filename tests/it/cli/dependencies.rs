//! `check`, `publish`, `token`: commands that need a broker and WeChat.

use serde_json::{Value, json};

use crate::support::{APP, COMPANY, TEMPLATE, World, event};

/// Runs a command line of words without blanks; answers exit code, stdout and stderr.
async fn run(world: &World, line: &str) -> (i32, String, String) {
    let output = world.command(&line.split_whitespace().collect::<Vec<_>>()).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn run_json(world: &World, line: &str) -> (i32, Value) {
    let (code, stdout, stderr) = run(world, &format!("{line} --json")).await;
    (code, serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("`{line}` said {stdout} {stderr}")))
}

/// What `check` says of one thing.
fn finding<'a>(findings: &'a Value, what: &str) -> &'a Value {
    let found = findings.as_array().unwrap().iter().find(|finding| finding["what"] == what);
    found.unwrap_or_else(|| panic!("nothing about {what} in {findings}"))
}

#[tokio::test]
async fn check_is_content_when_everything_works() {
    let world = World::new().await;
    let (code, findings) = run_json(&world, "check").await;
    for what in ["broker", "database", "migrations", &format!("app {APP}")] {
        assert_eq!(finding(&findings, what)["state"], "ok", "{findings}");
    }
    assert_eq!(code, 0);
}

#[tokio::test]
async fn check_is_not_content_while_an_app_is_paused() {
    let world = World::new().await;
    run(&world, &format!("app pause {APP} --template {TEMPLATE} --why typo")).await;
    let (code, findings) = run_json(&world, "check").await;
    let template = finding(&findings, &format!("pause of template {TEMPLATE}"));
    assert_eq!((code, &template["state"]), (0, &json!("warning")), "its other templates flow");

    run(&world, &format!("app pause {APP} --why audit")).await;
    let (code, findings) = run_json(&world, "check").await;
    let app = finding(&findings, &format!("pause of app {APP}"));
    assert_eq!((code, &app["state"]), (3, &json!("failed")));
    assert!(app["detail"].as_str().unwrap().contains("audit"), "{app}");
}

#[tokio::test]
async fn an_error_is_said_once() {
    let world = World::new().await;
    for line in ["publish /nowhere/event.json", "--config /nowhere/wn.toml app list"] {
        let (code, _, stderr) = run(&world, line).await;
        assert_eq!((code, stderr.matches("os error 2").count()), (1, 1), "{stderr}");
    }
}

#[tokio::test]
async fn check_names_the_app_whose_secret_is_wrong() {
    let world = World::new().await;
    world.db.execute("UPDATE t_wechat_app SET app_secret = 'not-the-one'", &[]).await.unwrap();
    let (code, findings) = run_json(&world, "check").await;
    let app = finding(&findings, &format!("app {APP}"));
    assert_eq!((code, &app["state"]), (3, &json!("failed")));
    assert!(app["detail"].as_str().unwrap().contains("40"), "says WeChat's code: {app}");
    assert!(!findings.to_string().contains("not-the-one"), "never the secret itself: {findings}");
}

#[tokio::test]
async fn check_does_not_leave_the_daemon_with_a_dead_classic_token() {
    let world = World::new().await;
    run(&world, &format!("app set --app-id {APP} --token-api classic")).await;
    assert_eq!(run(&world, "check").await.0, 0);
    let (_, tokens) = run_json(&world, "token show").await;
    assert_eq!(tokens[0]["generation"], 1, "the fetch killed the older token, so the newer one is stored");
}

#[tokio::test]
async fn a_token_is_refreshed_and_shown_masked() {
    let world = World::new().await;
    let (_, before) = run_json(&world, "token show").await;
    assert_eq!((&before[0]["token"], &before[0]["generation"]), (&json!(null), &json!(0)));

    let (code, said, stderr) = run(&world, &format!("token refresh --app-id {APP}")).await;
    assert_eq!(code, 0, "{stderr}");
    let row = world.db.query_one("SELECT access_token, token_version FROM t_wechat_app", &[]).await.unwrap();
    let token: String = row.get(0);
    assert_eq!(row.get::<_, i64>(1), 1);
    let (_, after) = run_json(&world, "token show").await;
    for shown in [said, after.to_string()] {
        assert!(shown.contains(&token[..6]) && !shown.contains(&token), "{shown}");
    }
    assert_eq!(run(&world, "token refresh --app-id wx-unknown").await.0, 3);
}

#[tokio::test]
async fn a_published_event_reaches_its_user() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    world.rule(&["zhangsan"]).await;
    let flags = format!("--company {COMPANY} --app-id {APP} --template-id {TEMPLATE} --data thing1=票");
    // Before any daemon was there: the command declares what it publishes to, and nothing is lost.
    let (code, said, stderr) = run(&world, &format!("publish --event-id by-flags {flags}")).await;
    assert_eq!((code, said.as_str()), (0, "published by-flags\n"), "{stderr}");
    let file = std::env::temp_dir().join(format!("{}.json", world.name));
    std::fs::write(&file, event("by-file").0.to_string()).unwrap();
    assert_eq!(run(&world, &format!("publish {} --routing-key payment.paid", file.display())).await.0, 0);
    std::fs::remove_file(file).unwrap();

    let _daemon = world.daemon().await;
    world.all_ended(2).await;
    assert_eq!(world.wechat.got("o-zhang").await, 2);
}

#[tokio::test]
async fn what_is_no_event_is_published_only_on_demand() {
    let world = World::new().await;
    let file = std::env::temp_dir().join(format!("{}.json", world.name));
    std::fs::write(&file, r#"{"event_id": "odd"}"#).unwrap();
    let (code, _, stderr) = run(&world, &format!("publish {}", file.display())).await;
    assert!(code == 1 && stderr.contains("data"), "names the field: {stderr}");
    assert_eq!(run(&world, &format!("publish {} --unchecked", file.display())).await.0, 0);
    std::fs::remove_file(file).unwrap();
}

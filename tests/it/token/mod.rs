//! The token at the wire: real PostgreSQL, a token endpoint over HTTP, several refreshers as several processes.

mod world;

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;
use wechat_notifier::db::registry::tokens;
use wechat_notifier::domain::ids::AppId;
use wechat_notifier::token::{FaultReason, Lookup, RefreshResult, Timing, TokenState};

use world::{SECRET, Says, World, app, eventually};

/// How soon after a refusal the refresher tries again by itself, less the time until the test has seen the refusal.
const OWN_RETRY: Duration = Duration::from_secs(4);
/// Longer than any test: what this would do, something else has to do.
const NEVER: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn processes_that_start_together_fetch_one_token() {
    let world = World::new("stable", SECRET).await;
    let (one, two, three) = (world.start(), world.start(), world.start());
    for process in [&one, &two, &three] {
        process.sees_generation(1).await;
    }
    assert_eq!(world.fetches(), 1);
}

#[tokio::test]
async fn a_storm_of_rejections_in_two_processes_is_one_fetch() {
    for token_api in ["stable", "classic"] {
        let world = World::new(token_api, SECRET).await;
        let (one, two) = (world.start(), world.start());
        one.sees_generation(1).await;
        two.sees_generation(1).await;

        tokio::join!(one.storm_against(1), two.storm_against(1));

        one.sees_generation(2).await;
        two.sees_generation(2).await;
        // What came late, and what comes later still, is about a token that nobody uses any more.
        tokio::join!(one.storm_against(1), two.storm_against(1));
        one.stop().await;
        two.stop().await;
        assert_eq!((world.fetches(), world.stored_version().await), (2, 2), "{token_api}");
    }
}

#[tokio::test]
async fn a_new_token_reaches_the_others_by_notification_alone() {
    let world = World::new("stable", SECRET).await;
    let patient = Timing { poll: NEVER, peek: NEVER, ..Timing::default() };
    let (one, two) = (world.start_with(patient.clone()), world.start_with(patient));
    one.sees_generation(1).await;
    two.sees_generation(1).await;

    one.storm_against(1).await;

    two.sees_generation(2).await;
}

#[tokio::test]
async fn a_lost_notification_is_made_good_by_the_poll() {
    let world = World::new("stable", SECRET).await;
    let process = world.start();
    process.sees_generation(1).await;

    world.set("access_token = 'silent', token_version = 2, token_exp_time = now() + interval '1 hour'").await;

    process.sees_generation(2).await;
    assert_eq!(world.fetches(), 1);
}

#[tokio::test]
async fn what_was_announced_while_nobody_listened_is_read_on_reconnecting() {
    let world = World::new("stable", SECRET).await;
    let process = world.start_with(Timing { poll: NEVER, ..Timing::default() });
    process.sees_generation(1).await;

    world
        .set("access_token = 'unheard', token_version = 2, token_exp_time = now() + interval '1 hour'")
        .await;
    // Everybody's listeners: the other tests must live with that, too.
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT current_schema()::text'";
    assert!(!world.sql.query(cut, &[]).await.unwrap().is_empty());

    process.sees_generation(2).await;
}

#[tokio::test]
async fn a_nonsensical_row_spoils_no_other() {
    let world = World::new("stable", SECRET).await;
    let rows = "INSERT INTO t_wechat_app (app_id, access_token, token_exp_time, status) VALUES \
                ('wxforever', 'x', 'infinity', 0), ('wxnever', 'x', '-infinity', 0), ('', '', NULL, 0)";
    world.sql.execute(rows, &[]).await.unwrap();
    world.start().sees_generation(1).await;
}

#[tokio::test]
async fn who_finds_the_lease_taken_waits_for_the_holder() {
    let world = World::new("stable", SECRET).await;
    world.set("token_lease_owner = gen_random_uuid(), token_lease_until = now() + interval '1 hour'").await;
    let process = world.start();
    process.sees("a waiting app", |state| matches!(state.token, TokenState::Waiting)).await;

    // The holder brings its token, but its announcement is lost.
    world.set("access_token = 'theirs', token_version = 1, token_exp_time = now() + interval '1 hour', token_lease_owner = NULL").await;

    process.sees_generation(1).await;
    assert_eq!(world.fetches(), 0);
}

#[tokio::test]
async fn a_dead_holder_s_lease_runs_out() {
    let world = World::new("stable", SECRET).await;
    world.set("token_lease_owner = gen_random_uuid(), token_lease_until = now() + interval '1 second'").await;
    world.start().sees_generation(1).await;
    assert_eq!(world.fetches(), 1);
}

#[tokio::test]
async fn who_lost_the_lease_cannot_store() {
    let world = World::new("classic", SECRET).await;
    let db = world.scratch.database();
    let (slow, quick) = (Uuid::new_v4(), Uuid::new_v4());
    let lease = Duration::from_secs(20);
    let hour = Duration::from_secs(3_600);

    assert!(tokens::take_lease(&db, &app(), 0, slow, lease).await.unwrap());
    assert!(
        tokens::take_lease(&db, &app(), 0, slow, lease).await.unwrap(),
        "one's own lease can be taken again"
    );
    assert!(!tokens::take_lease(&db, &app(), 0, quick, lease).await.unwrap());
    world.set("token_lease_until = now() - interval '1 second'").await;
    assert!(tokens::take_lease(&db, &app(), 0, quick, lease).await.unwrap());

    let stored = tokens::store(&db, &app(), 0, slow, &"late".into(), hour).await.unwrap();
    assert_eq!(stored, None);
    let stored = tokens::store(&db, &app(), 0, quick, &"good".into(), hour).await.unwrap();
    assert_eq!(stored, Some(1));
    assert!(!tokens::take_lease(&db, &app(), 0, slow, lease).await.unwrap(), "that version is over");
}

#[tokio::test]
async fn a_stored_token_outlives_a_restart() {
    let world = World::new("classic", SECRET).await;
    let process = world.start();
    process.sees_generation(1).await;
    process.stop().await;

    let process = world.start();
    process.sees_generation(1).await;
    assert!(matches!(process.results.lock().unwrap()[..], [RefreshResult::Adopted { .. }]));
    assert_eq!(world.fetches(), 1);
}

#[tokio::test]
async fn a_wrong_secret_pauses_the_app_until_its_row_is_corrected() {
    let world = World::new("stable", "wrong").await;
    let process = world.start();
    let state = process.sees_fault(40125).await;
    let TokenState::Faulty { reason, errmsg, .. } = state.token else { unreachable!() };
    assert_eq!((reason, errmsg.as_str()), (FaultReason::TokenRefused, "invalid appsecret rid: 1-2"));

    // By hand, without an announcement.
    world.set("app_secret = 'right'").await;

    let corrected_at = Instant::now();
    process.sees_generation(1).await;
    assert!(corrected_at.elapsed() < OWN_RETRY, "it waited for its own next try");
}

#[tokio::test]
async fn an_announced_change_is_tried_at_once() {
    let world = World::new("stable", SECRET).await;
    world.wechat().says = Says::Refusal(40164);
    let process = world.start_with(Timing { poll: NEVER, ..Timing::default() });
    process.sees_fault(40164).await;

    // Mended at WeChat's side: nothing in the row tells.
    world.wechat().says = Says::Fresh;
    tokens::announce(&world.scratch.database(), &app()).await.unwrap();

    let announced_at = Instant::now();
    process.sees_generation(1).await;
    assert!(announced_at.elapsed() < OWN_RETRY, "it waited for its own next try");
}

#[tokio::test]
async fn the_same_token_rejected_twice_pauses_the_app() {
    let world = World::new("stable", SECRET).await;
    world.wechat().says = Says::Same("stuck");
    let process = world.start();
    process.sees_generation(1).await;

    process.storm_against(1).await;
    process.sees_generation(2).await;
    process.storm_against(2).await;

    let state = process.sees_fault(40001).await;
    assert!(matches!(state.token, TokenState::Faulty { reason: FaultReason::TokenRejected, .. }));
    assert_eq!(world.fetches(), 3);

    // The probe finds another token.
    world.wechat().says = Says::Same("loose");
    process.sees_generation(3).await;
}

#[tokio::test]
async fn a_failed_refresh_leaves_the_old_token_in_use() {
    let world = World::new("stable", SECRET).await;
    // The refresh comes 5 s after the first token, which is good for 25 s more.
    world.wechat().expires_in_s = 30;
    let ahead = Duration::from_secs(25)..=Duration::from_secs(25);
    let process = world.start_with(Timing {
        stable_ahead: ahead,
        least_gap: Duration::from_secs(5),
        ..Timing::default()
    });
    process.sees_generation(1).await;
    world.wechat().says = Says::Refusal(-1);

    let results = process.results.clone();
    eventually("the failed refresh", async || results.lock().unwrap().contains(&RefreshResult::Away)).await;
    process.sees_generation(1).await;
    world.wechat().says = Says::Fresh;
    process.sees_generation(2).await;
}

#[tokio::test]
async fn a_token_is_refreshed_ahead_of_its_end() {
    for token_api in ["stable", "classic"] {
        let world = World::new(token_api, SECRET).await;
        world.wechat().expires_in_s = 10;
        let ahead = Duration::from_secs(9)..=Duration::from_secs(9);
        let process = world.start_with(Timing {
            stable_ahead: ahead.clone(),
            classic_ahead: ahead,
            least_gap: Duration::from_millis(100),
            ..Timing::default()
        });
        process.sees_generation(1).await;
        process.sees_generation(2).await;
    }
}

#[tokio::test]
async fn without_the_table_a_stable_token_is_kept_in_memory_and_stored_later() {
    let world = World::new("stable", SECRET).await;
    let process = world.start();
    process.sees_generation(1).await;

    world.rename_table("t_wechat_app", "hidden").await;
    process.storm_against(1).await;
    process.sees_generation(2).await;
    world.rename_table("hidden", "t_wechat_app").await;

    eventually("the token to be stored", async || world.stored_version().await == 2).await;
    assert_eq!(process.sees_generation(2).await.generation(), Some(2), "storing it changes nothing");
    assert_eq!(world.fetches(), 2);
}

#[tokio::test]
async fn without_the_table_no_classic_token_is_fetched() {
    let world = World::new("classic", SECRET).await;
    let process = world.start();
    process.sees_generation(1).await;

    world.rename_table("t_wechat_app", "hidden").await;
    process.storm_against(1).await;
    let results = process.results.clone();
    eventually("a try without a database", async || results.lock().unwrap().contains(&RefreshResult::Away))
        .await;
    assert_eq!(world.fetches(), 1, "it would have killed the others' token");

    world.rename_table("hidden", "t_wechat_app").await;
    process.sees_generation(2).await;
}

#[tokio::test]
async fn an_app_is_looked_up_before_it_is_called_unknown() {
    let world = World::new("stable", SECRET).await;
    let process = world.start_with(Timing { poll: NEVER, ..Timing::default() });
    process.sees_generation(1).await;
    let other = AppId::parse("wxother").unwrap();
    assert!(matches!(process.book.app(&other).await, Ok(Lookup::Unknown)));

    let insert = "INSERT INTO t_wechat_app (app_id, app_secret, status) VALUES ('wxother', 'x', 0)";
    world.sql.execute(insert, &[]).await.unwrap();

    let book = &process.book;
    assert!(
        matches!(book.app(&other).await, Ok(Lookup::Known(_))),
        "that it had no row is no reason not to look"
    );
    world.rename_table("t_wechat_app", "hidden").await;
    let third = AppId::parse("wxthird").unwrap();
    assert!(book.app(&third).await.is_err(), "without the database nobody knows");
}

#[tokio::test]
async fn a_switched_off_app_has_no_token_and_a_deleted_one_no_page() {
    let world = World::new("stable", SECRET).await;
    let process = world.start();
    process.sees_generation(1).await;

    world.set("status = 0").await;
    process.sees("a switched-off app", |state| !state.app.active && state.generation().is_none()).await;
    world.sql.execute("DELETE FROM t_wechat_app", &[]).await.unwrap();

    let book = &process.book;
    eventually("the tracked to close", async || matches!(book.app(&app()).await, Ok(Lookup::Unknown))).await;
}

/// A row can hold any number, and the refresher serves all apps.
#[tokio::test]
async fn a_version_that_is_the_last_number_stops_no_refresher() {
    let world = World::new("stable", SECRET).await;
    world.set("token_version = 9223372036854775807").await;
    let process = world.start();
    process.sees("a token", |state| matches!(state.token, TokenState::Ready(_))).await;
    process.stop().await;
}

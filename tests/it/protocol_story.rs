//! The table of the delivery protocol, row by row, on the real system: what a message does that meets a row which some
//! earlier process left behind.

use serde_json::json;

use crate::support::{Daemon, TEMPLATE, World, delivery_message, event};

/// A world with one willing user, o-zhang.
async fn world_of_zhang() -> World {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    world
}

async fn world_and_daemon() -> (World, Daemon) {
    let world = world_of_zhang().await;
    let daemon = world.daemon().await;
    (world, daemon)
}

#[tokio::test]
async fn what_is_finished_is_acked_and_nothing_is_sent() {
    let (world, daemon) = world_and_daemon().await;
    let finished = [("sent", 1, 1), ("skipped", 0, 2), ("dead", 1, 1), ("dead", 1, 2)];
    for (number, (status, row_epoch, epoch)) in finished.into_iter().enumerate() {
        let event = event(&format!("done-{number}"));
        world.row(&event, "o-zhang", status, row_epoch, "1 h").await;
        world.carry(delivery_message(event, "o-zhang").epoch(epoch)).await;
    }
    let before = world.ledger().await;

    daemon.claims(4.0).await;
    world.all_acked(daemon).await;

    assert_eq!(world.ledger().await, before);
    assert_eq!(world.wechat.send_requests().await, 0);
}

#[tokio::test]
async fn a_dead_delivery_lives_again_only_by_a_replay_of_the_next_epoch() {
    let (world, daemon) = world_and_daemon().await;
    for (event_id, epoch) in [("too-early", 1), ("too-late", 3), ("right", 2)] {
        let event = event(event_id);
        world.row(&event, "o-zhang", "dead", 1, "-1 h").await;
        world.carry(delivery_message(event, "o-zhang").epoch(epoch).replayed()).await;
    }

    let sent = world.row_when("right", "sent", |row| row.status == "sent").await;
    assert_eq!((sent.epoch, sent.attempts), (2, 1));
    daemon.claims(3.0).await;
    world.all_acked(daemon).await;
    assert_eq!(world.ended("too-early").await.end(), "dead");
    assert_eq!(world.ended("too-late").await.end(), "dead");
    assert_eq!(world.wechat.got("o-zhang").await, 1);
}

#[tokio::test]
async fn an_echo_is_acked_and_the_later_message_does_the_work() {
    let (world, daemon) = world_and_daemon().await;
    let event = event("echoed");
    world.row(&event, "o-zhang", "retrying", 2, "-1 h").await;

    world.carry(delivery_message(event.clone(), "o-zhang").epoch(1)).await;
    daemon.claims(1.0).await;
    world.all_acked(daemon).await;
    let row = world.row_when("echoed", "there", |_| true).await;
    assert_eq!((row.status.as_str(), row.epoch), ("retrying", 2), "the echo touched the row");
    assert_eq!(world.wechat.send_requests().await, 0);

    let _daemon = world.daemon().await;
    world.carry(delivery_message(event, "o-zhang").epoch(2)).await;
    assert_eq!(world.ended("echoed").await.end(), "sent");
    world.conserved(["echoed".to_owned()]).await;
}

#[tokio::test]
async fn what_release_0_1_left_in_the_queues_is_brought_and_its_echo_is_not() {
    let (world, daemon) = world_and_daemon().await;
    for (event_id, epoch) in [("echoed", 1), ("waited", 2)] {
        let event = event(event_id);
        world.row(&event, "o-zhang", "retrying", 2, "-1 h").await;
        world.carry(delivery_message(event, "o-zhang").epoch(epoch).by_release_0_1()).await;
    }

    assert_eq!(world.ended("waited").await.end(), "sent");
    world.all_acked(daemon).await;
    let echoed = world.row_when("echoed", "there", |_| true).await;
    assert_eq!((echoed.status.as_str(), echoed.epoch), ("retrying", 2));
    assert_eq!(world.wechat.send_requests().await, 1);
}

#[tokio::test]
async fn what_waits_is_claimed_by_its_message_or_a_later_one() {
    let (world, daemon) = world_and_daemon().await;
    for (event_id, status, row_epoch, epoch) in
        [("planned", "planned", 0, 0), ("due", "retrying", 1, 1), ("ahead", "retrying", 1, 3)]
    {
        let event = event(event_id);
        world.row(&event, "o-zhang", status, row_epoch, "-1 h").await;
        world.carry(delivery_message(event, "o-zhang").epoch(epoch)).await;
    }

    world.all_ended(3).await;
    for (event_id, epoch) in [("planned", 0), ("due", 1), ("ahead", 3)] {
        let row = world.ended(event_id).await;
        assert_eq!((row.end().as_str(), row.epoch, row.unknowns), ("sent", epoch, 0), "{event_id}");
    }
    world.conserved(["planned", "due", "ahead"].map(str::to_owned)).await;
    world.all_acked(daemon).await;
}

#[tokio::test]
async fn an_event_that_comes_again_takes_up_its_own_rows_whatever_the_rules_say() {
    let (world, _daemon) = world_and_daemon().await;
    let event = event("no-rule-any-more");
    world.row(&event, "o-zhang", "planned", 0, "-1 h").await;

    world.publish(event).await;

    assert_eq!(world.ended("no-rule-any-more").await.end(), "sent");
}

#[tokio::test]
async fn a_message_waits_on_the_ladder_while_a_living_holder_finishes() {
    let (world, daemon) = world_and_daemon().await;
    let event = event("held").to(&["zhangsan"]);
    world.row(&event, "o-zhang", "attempting", 0, "1 h").await;

    world.publish(event).await;
    daemon.claims(3.0).await;
    let row = world.row_when("held", "there", |_| true).await;
    assert_eq!((row.status.as_str(), row.attempts, row.unknowns, row.epoch), ("attempting", 0, 0, 0));
    world.sql("UPDATE t_wechat_delivery SET status = 'sent', claim = NULL, claimed_until = NULL").await;

    world.all_acked(daemon).await;
    assert_eq!(world.wechat.send_requests().await, 0);
}

#[tokio::test]
async fn a_lease_that_runs_out_is_taken_over_and_counts_one_unknown() {
    let (world, _daemon) = world_and_daemon().await;
    let event = event("orphan").to(&["zhangsan"]);
    world.row(&event, "o-zhang", "attempting", 0, "1 s").await;

    world.publish(event).await;

    let row = world.ended("orphan").await;
    assert_eq!((row.end().as_str(), row.unknowns, row.attempts, row.epoch), ("sent", 1, 1, 0));
    assert_eq!(world.conserved(["orphan".to_owned()]).await, 1);
}

#[tokio::test]
async fn where_policy_forbids_another_a_take_over_gives_up_with_a_dead_letter() {
    let (world, _daemon) = world_and_daemon().await;
    let parked = event("parked").with("on_unknown", "park");
    let crashed_often = event("crashed-often");
    for event in [&parked, &crashed_often] {
        world.row(event, "o-zhang", "attempting", 0, "-1 s").await;
    }
    world
        .sql("UPDATE t_wechat_delivery SET take_overs = 10, unknowns = 10 WHERE event_id = 'crashed-often'")
        .await;

    world.carry(delivery_message(parked, "o-zhang")).await;
    world.carry(delivery_message(crashed_often, "o-zhang")).await;

    assert_eq!(world.dead_letters_when(2).await, ["unknown_outcome", "unknown_outcome"]);
    for (event_id, unknowns) in [("parked", 1), ("crashed-often", 11)] {
        let row = world.ended(event_id).await;
        assert_eq!((row.end().as_str(), row.unknowns), ("dead:unknown_outcome", unknowns), "{event_id}");
    }
    assert_eq!(world.wechat.send_requests().await, 0);
    world.conserved(["parked", "crashed-often"].map(str::to_owned)).await;
}

#[tokio::test]
async fn a_yes_wins_over_whoever_took_the_claim_meanwhile() {
    let (world, daemon) = world_and_daemon().await;
    world.wechat.fault(json!({"match": {"path": "send"}, "action": {"delay_ms": 1000}})).await;

    world.publish(event("slow").to(&["zhangsan"])).await;
    world.row_when("slow", "claimed", |row| row.status == "attempting").await;
    world.sql("UPDATE t_wechat_delivery SET claim = gen_random_uuid(), claimed_until = now() + interval '1 h', epoch = 4").await;

    let row = world.ended("slow").await;
    assert_eq!((row.end().as_str(), row.attempts), ("sent", 1));
    world.all_acked(daemon).await;
    assert_eq!(world.wechat.got("o-zhang").await, 1);
}

#[tokio::test]
async fn an_outcome_that_lost_its_claim_is_dropped_and_its_message_deferred() {
    let (world, daemon) = world_and_daemon().await;
    let refusal =
        json!({"match": {"path": "send"}, "times": 1, "action": {"errcode": 43101, "delay_ms": 1000}});
    world.wechat.fault(refusal).await;

    world.publish(event("overtaken").to(&["zhangsan"])).await;
    world.row_when("overtaken", "claimed", |row| row.status == "attempting").await;
    // Another process takes it over, and dies.
    world
        .sql("UPDATE t_wechat_delivery SET claim = gen_random_uuid(), claimed_until = now() + interval '2 s'")
        .await;

    let row = world.ended("overtaken").await;
    assert_eq!(
        (row.end().as_str(), row.unknowns, row.attempts),
        ("sent", 1, 1),
        "the refusal was recorded after all"
    );
    assert_eq!(daemon.metric("wechat_notifier_dropped_settlements_total").await, 1.0);
    world.conserved(["overtaken".to_owned()]).await;
}

#[tokio::test]
async fn an_event_published_three_times_to_two_processes_is_one_message() {
    const USERS: usize = 50;
    let world = World::new().await;
    world.crowd(i32::try_from(USERS).unwrap()).await;
    let (_one, _two) = (world.daemon().await, world.daemon().await);

    let events = (1..=USERS).map(|n| event(&format!("thrice-{n}")).to(&[&format!("user-{n}")]));
    world.publish_all(events.cycle().take(3 * USERS)).await;

    world.all_ended(50).await;
    assert_eq!(world.conserved((1..=USERS).map(|n| format!("thrice-{n}"))).await, 0);
    assert_eq!(world.wechat.got_by_all().await, 50);
    assert_eq!(world.ledger().await.len(), USERS);
}

#[tokio::test]
async fn an_event_id_with_other_data_is_a_dead_letter_and_no_second_message() {
    let (world, _daemon) = world_and_daemon().await;
    let first = event("pay-1").to(&["zhangsan"]);
    let other_page = first.clone().with("page", "pages/elsewhere");
    let other_data = first.clone().with("data", json!({"amount2": "¥999.00"}));

    world.publish(first.clone()).await;
    assert_eq!(world.ended("pay-1").await.end(), "sent");
    world.publish_all([other_page, other_data, first]).await;

    assert_eq!(world.dead_letters_when(2).await, ["event_id_reused", "event_id_reused"]);
    assert_eq!(world.wechat.got("o-zhang").await, 1);
}

#[tokio::test]
async fn an_answer_that_never_comes_is_counted_and_the_message_sent_again() {
    let (world, _daemon) = world_and_daemon().await;
    for (event_id, action) in [("hung", json!("hang")), ("cut", json!("reset_after_send"))] {
        world.wechat.fault(json!({"match": {"path": "send"}, "times": 1, "action": action})).await;
        world.publish(event(event_id).to(&["zhangsan"])).await;
        let row = world.ended(event_id).await;
        assert_eq!((row.end().as_str(), row.unknowns, row.attempts), ("sent", 1, 2), "{event_id}");
    }
    assert_eq!(world.wechat.got("o-zhang").await, 3, "the cut answer was a yes, so that one came twice");
    assert_eq!(world.conserved(["hung", "cut"].map(str::to_owned)).await, 2);
}

#[tokio::test]
async fn two_resends_without_an_answer_are_enough() {
    let (world, _daemon) = world_and_daemon().await;
    world.wechat.fault(json!({"match": {"path": "send"}, "action": "reset_after_send"})).await;

    world.publish(event("black-hole").to(&["zhangsan"])).await;

    assert_eq!(world.dead_letters_when(1).await, ["unknown_outcome"]);
    let row = world.ended("black-hole").await;
    assert_eq!((row.end().as_str(), row.unknowns, row.attempts), ("dead:unknown_outcome", 3, 3));
    assert_eq!(world.wechat.send_requests().await, 3);
    world.conserved(["black-hole".to_owned()]).await;
}

#[tokio::test]
async fn who_rather_gets_nothing_than_two_is_parked_at_once() {
    let (world, _daemon) = world_and_daemon().await;
    world.wechat.fault(json!({"match": {"path": "send"}, "action": "reset"})).await;

    world.publish(event("careful").to(&["zhangsan"]).with("on_unknown", "park")).await;

    assert_eq!(world.dead_letters_when(1).await, ["unknown_outcome"]);
    let row = world.ended("careful").await;
    assert_eq!((row.end().as_str(), row.unknowns), ("dead:unknown_outcome", 1));
    assert_eq!(world.wechat.send_requests().await, 1);
}

#[tokio::test]
async fn a_refusal_after_an_unknown_is_not_blamed_on_the_user() {
    let world = World::new().await;
    world.user_with("once", "o-once", &json!({"status": "accept", "remaining": 1})).await;
    world.wechat.tell("consent", json!({"openid": "o-once", "template_id": TEMPLATE, "remaining": 1})).await;
    world.wechat.fault(json!({"match": {"path": "send"}, "times": 1, "action": "reset_after_send"})).await;
    let _daemon = world.daemon().await;

    world.publish(event("one-time").to(&["once"])).await;

    let row = world.ended("one-time").await;
    assert_eq!((row.end().as_str(), row.unknowns), ("skipped:refused_after_unknown", 1));
    assert_eq!(world.wechat.got("o-once").await, 1, "the unknown attempt had reached him");
    world.conserved(["one-time".to_owned()]).await;
}

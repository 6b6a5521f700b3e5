//! PostgreSQL is unreachable, in the ways a network has. That it restarts or crashes is told in `restarts`.

use std::time::{Duration, Instant};

use super::load::{Load, Toll, USERS};
use crate::scratch::Scratch;
use crate::support::{Daemon, Proxy};

/// A daemon that reaches its database by this road, in the middle of its work.
async fn at_work() -> (Load, Proxy, Daemon) {
    let load = Load::new().await;
    let road = Proxy::to(&load.world.database_url).await;
    let daemon = load.daemon(&[("DATABASE__URL", &road.url)]).await;
    load.begins().await;
    (load, road, daemon)
}

#[tokio::test]
async fn a_connection_cut_before_the_answer_to_a_claim_or_a_settlement_costs_nothing() {
    // Written down in the ledger, and the daemon does not hear of it.
    const CLAIMED: &str = "status <> 'planned'";
    const SETTLED: &str = "status = 'sent'";
    let (load, road, daemon) = at_work().await;

    let mut unheard = 0;
    for written in [CLAIMED, SETTLED, CLAIMED, SETTLED] {
        let before = load.count(written).await;
        road.hold_answers();
        // On a new connection there is no statement yet that could be run: its own question waits for an answer.
        let deadline = Instant::now() + Duration::from_millis(500);
        while Instant::now() < deadline && load.count(written).await == before {}
        unheard += i64::from(load.count(written).await > before);
        road.cut();
        road.heal();
        let sent = load.world.wechat.got_by_all().await;
        load.sent_reaches((sent + 20).min(USERS.into())).await;
    }
    assert!(unheard > 0, "no statement was cut off from its answer");
    assert_eq!(load.everybody_is_served([daemon]).await, Toll::NOTHING, "the process lived: it knows all");
}

/// Half a minute: longer than a lease and a statement's time.
#[tokio::test]
async fn a_database_that_stands_still_for_half_a_minute_is_waited_for() {
    let (load, road, daemon) = at_work().await;
    road.stall();
    daemon.not_ready("database").await;
    // Not to wait for something: this is the fault.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let sent = load.world.wechat.got_by_all().await;
    assert!(sent < USERS.into(), "the load was over before");
    road.heal();
    daemon.until_ready().await;
    assert_eq!(load.everybody_is_served([daemon]).await, Toll::NOTHING);
}

/// Nobody ever says that they are gone. PostgreSQL, too, keeps its side, and would keep the locks of a transaction in it.
#[tokio::test]
async fn connections_that_fall_silent_for_good_are_given_up() {
    let (load, road, daemon) = at_work().await;
    road.silence();
    assert_eq!(load.everybody_is_served([daemon]).await, Toll::NOTHING);
}

/// The locks of whoever fell silent in a transaction: a rare moment, so the setting itself is looked at.
#[tokio::test]
async fn a_transaction_that_its_process_left_open_is_ended() {
    let scratch = Scratch::new().await;
    let database = scratch.database();
    let connection = database.durable().await.unwrap();
    let row = connection.query_one("SHOW idle_in_transaction_session_timeout", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "10s");
}

//! Two processes whose clocks disagree by hours.

use super::load::{Load, Toll};
use crate::support::{APP, given};

/// Leases of deliveries and of tokens go by the database's clock and by clocks that only run forward, so a wrong wall clock
/// takes nothing over, fetches no token early and sends nothing twice.
#[tokio::test]
async fn two_processes_two_hours_apart_share_the_work_and_double_nothing() {
    let load = Load::new().await;
    let library = given("WN_TEST_FAKETIME");
    let here = load.daemon(&[]).await;
    // The wall clock alone: what runs forward runs on.
    let two_hours_on =
        [("LD_PRELOAD", library.as_str()), ("FAKETIME", "+2h"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    let ahead = load.daemon_in(&two_hours_on, &[]).await;
    load.begins().await;
    for daemon in [&here, &ahead] {
        let sent = format!(r#"wechat_notifier_attempts_total{{app_id="{APP}",class="sent",errcode="0"}}"#);
        crate::support::eventually("both to send", async || (daemon.metric(&sent).await > 0.0).then_some(()))
            .await;
    }
    let log = ahead.log();
    let hour =
        |line: &str| line.split("\"timestamp\":\"").nth(1).and_then(|rest| rest.get(..16).map(str::to_owned));
    let (theirs, ours) = (hour(&log).unwrap(), wechat_notifier::clock::now().to_string());
    assert!(theirs.as_str() > &ours[..16], "its clock is not ahead: {theirs}, here {ours}");

    assert_eq!(load.world.wechat.token_fetches(APP).await, 1, "a token was taken for old");
    assert_eq!(load.everybody_is_served([here, ahead]).await, Toll::NOTHING);
}

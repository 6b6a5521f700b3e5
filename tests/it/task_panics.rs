//! No task dies in silence: each long-lived one panics in turn in the middle of a load. It is noticed, the task or the process
//! is started again, and nothing is lost. The tasks come from the list that the daemon starts them by.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::json;
use wechat_notifier::lifecycle::{AfterPanic, Task};

use crate::support::{APP, Daemon, World, event, eventually};

/// Worlds at once: each waits most of the time.
const AT_ONCE: usize = 4;
const EVENTS: i32 = 60;
/// The bound of the promise.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_panic_of_any_long_lived_task_is_noticed_and_costs_nothing() {
    stream::iter(Task::ALL).for_each_concurrent(AT_ONCE, |task| panics(*task)).await;
}

async fn panics(task: Task) {
    let world = World::new().await;
    world.crowd(EVENTS).await;
    // So slow that the panic finds work in hand, and so limited that somebody waits for a permit.
    world.wechat.tell("latency", json!({"ms": 50, "appid": APP})).await;
    world.db.execute("UPDATE t_wechat_app SET rate_per_second = 20", &[]).await.unwrap();
    let when = std::env::temp_dir().join(format!("{}-panic", world.name));
    let daemon = clumsy(&world, task, when.to_str().unwrap()).await;
    let ids: Vec<String> = (1..=EVENTS).map(|n| format!("event-{n}")).collect();
    let events = (1..=EVENTS).map(|n| event(&format!("event-{n}")).to(&[&format!("user-{n}")]));
    world.publish_all(events).await;
    world.ends_when("sent", 5).await;

    std::fs::write(&when, "now").unwrap();
    let begun = Instant::now();
    daemon.says(&["ERROR", task.as_str(), "panicked"]).await;
    assert!(begun.elapsed() < NOTICED_WITHIN, "{}: noticed after {:?}", task.as_str(), begun.elapsed());
    let daemon = match task.after_panic() {
        AfterPanic::Restart => started_again(daemon, task).await,
        AfterPanic::Exit => {
            let mut daemon = daemon;
            assert_eq!(daemon.exit().await, Some(1), "{}", task.as_str());
            world.daemon().await
        }
    };
    std::fs::remove_file(&when).unwrap();

    world.all_ended(EVENTS.into()).await;
    world.finish(daemon).await;
    let unknowns = world.conserved(ids).await;
    assert_eq!(world.ends().await.keys().collect::<Vec<_>>(), ["sent"], "{}", task.as_str());
    assert!(world.wechat.doubles().await <= unknowns);
}

/// A daemon that starts every kind of task there is, and whose `task` will panic.
async fn clumsy(world: &World, task: Task, when: &str) -> Daemon {
    let surroundings = [("WECHAT_NOTIFIER_PANIC_TASK", task.as_str()), ("WECHAT_NOTIFIER_PANIC_WHEN", when)];
    let settings =
        [("RETENTION__DEAD_LETTERS", "1d"), ("RETENTION__DELIVERIES", "3d"), ("HTTP__LISTEN", "127.0.0.1:0")];
    let daemon = world.spawn_in(&surroundings, &settings);
    daemon.until_ready().await;
    daemon
}

/// Not ready and counted, then ready by itself.
async fn started_again(daemon: Daemon, task: Task) -> Daemon {
    let name = task.as_str();
    daemon.not_ready(&format!("{name} panicked and is started again")).await;
    let series = format!("wechat_notifier_task_panics_total{{task=\"{name}\"}}");
    eventually("the panic to be counted", async || (daemon.metric(&series).await == 1.0).then_some(())).await;
    daemon.until_ready().await;
    daemon
}

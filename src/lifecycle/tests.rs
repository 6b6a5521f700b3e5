//! Stops and endings, on paused time: a deadline passes as soon as nothing else can happen.

use std::future::pending;

use tokio::time::Instant;

use super::*;

const DRAIN: Duration = Duration::from_secs(25);

/// A process, and the one who sends it signals.
fn process() -> (Lifecycle, mpsc::Sender<SignalKind>) {
    let (sender, signals) = mpsc::channel(2);
    (Lifecycle::with_signals(DRAIN, signals), sender)
}

/// A task that stops at the soft stop, this much later.
fn supervise_obedient(process: &Lifecycle, needs: Duration) {
    let soft = process.soft();
    process.supervise(Task::Events, async move {
        soft.cancelled().await;
        tokio::time::sleep(needs).await;
    });
}

#[tokio::test(start_paused = true)]
async fn a_signal_drains_and_ends_clean() {
    let (process, signals) = process();
    let (start, hard) = (Instant::now(), process.hard());
    supervise_obedient(&process, Duration::from_secs(3));
    signals.send(SignalKind::terminate()).await.unwrap();
    assert_eq!(process.wait().await, Ending::Clean);
    assert_eq!(start.elapsed().as_secs(), 3);
    assert!(hard.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_takes_too_long_is_cut_off() {
    let (process, signals) = process();
    let (start, hard) = (Instant::now(), process.hard());
    process.supervise(Task::Events, async move { hard.cancelled().await });
    signals.send(SignalKind::terminate()).await.unwrap();
    assert_eq!(process.wait().await, Ending::Clean);
    assert_eq!(start.elapsed().as_secs(), DRAIN.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_ends_at_once() {
    let (process, signals) = process();
    let start = Instant::now();
    process.supervise(Task::Events, pending());
    signals.send(SignalKind::terminate()).await.unwrap();
    signals.send(SignalKind::interrupt()).await.unwrap();
    assert_eq!(process.wait().await.code(), 130);
    assert!(start.elapsed() < HARD_STOP_GRACE + Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_by_itself_stops_the_process() {
    let (process, _signals) = process();
    supervise_obedient(&process, Duration::ZERO);
    process.supervise(Task::Deliveries, async {});
    assert_eq!(process.wait().await.code(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_stops_the_process_even_while_it_drains() {
    let (process, signals) = process();
    let soft = process.soft();
    process.supervise(Task::Deliveries, async move {
        soft.cancelled().await;
        panic!("on purpose");
    });
    signals.send(SignalKind::interrupt()).await.unwrap();
    assert_eq!(process.wait().await, Ending::TaskDied);
}

#[tokio::test(start_paused = true)]
async fn support_outlives_the_workers_and_does_not_hold_the_stop_up() {
    let (process, signals) = process();
    let (start, hard) = (Instant::now(), process.hard());
    let ended = std::sync::Arc::new(std::sync::Mutex::new(None));
    let ended_at = ended.clone();
    supervise_obedient(&process, Duration::from_secs(3));
    process.support(Task::BrokerWatch, async move {
        hard.cancelled().await;
        *ended_at.lock().unwrap() = Some(start.elapsed().as_secs());
    });
    signals.send(SignalKind::terminate()).await.unwrap();
    assert_eq!(process.wait().await, Ending::Clean);
    assert_eq!(*ended.lock().unwrap(), Some(3));
}

#[tokio::test(start_paused = true)]
async fn support_that_ends_during_the_drain_has_died() {
    let (process, signals) = process();
    let soft = process.soft();
    supervise_obedient(&process, Duration::from_secs(3));
    process.support(Task::BrokerWatch, async move { soft.cancelled().await });
    signals.send(SignalKind::terminate()).await.unwrap();
    assert_eq!(process.wait().await, Ending::TaskDied);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_deaf_to_stops_is_left_behind() {
    let (process, signals) = process();
    let start = Instant::now();
    process.supervise(Task::Events, pending());
    signals.send(SignalKind::terminate()).await.unwrap();
    assert_eq!(process.wait().await, Ending::Clean);
    assert_eq!(start.elapsed(), DRAIN + HARD_STOP_GRACE);
}

#[tokio::test]
async fn a_real_sigterm_is_heard() {
    let process = Lifecycle::new(DRAIN).unwrap();
    let soft = process.soft();
    supervise_obedient(&process, Duration::ZERO);
    let ourselves = std::process::id().to_string();
    let kill = std::process::Command::new("kill").args(["-TERM", &ourselves]).status().unwrap();
    assert!(kill.success());
    let ending = tokio::time::timeout(Duration::from_secs(10), process.wait()).await.expect("heard");
    assert_eq!(ending, Ending::Clean);
    assert!(soft.is_cancelled());
}

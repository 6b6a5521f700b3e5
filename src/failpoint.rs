//! Crash points: named arrows of the delivery protocol at which a test aborts the process; and panic points, at which it
//! makes a task panic.
//!
//! In the order in which a message meets them: `received`, `planned`, `skip_recorded`, `due_recorded`; of an event for many
//! `set_written` and, after each page, `page_brought`; `ready`, `claimed`, `requested`, `answered`, `deferred` or
//! `dead_letter_published`, `settled`, `before_ack`; and in the archiver `archived`. `tests/it/crash_points.rs` and
//! `tests/it/faults/fan_out.rs` die at each.
//!
//! Without the `failpoints` feature they compile to nothing.

/// Aborts the process here, as a power cut would, when `WECHAT_NOTIFIER_FAILPOINT` is `<name>` or `<name>:<n>` and this
/// is the n-th passage (the first without a number).
#[cfg(feature = "failpoints")]
pub fn crash_point(name: &str) {
    if is_wanted(name) {
        std::process::abort();
    }
}

/// Panics here, as a bug would, on the same condition as [`crash_point`].
#[cfg(feature = "failpoints")]
pub fn panic_point(name: &str) {
    assert!(!is_wanted(name), "panic point {name}");
}

#[cfg(feature = "failpoints")]
fn is_wanted(name: &str) -> bool {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static WANTED: LazyLock<Option<(String, u32)>> = LazyLock::new(|| {
        let wanted = std::env::var("WECHAT_NOTIFIER_FAILPOINT").ok()?;
        match wanted.split_once(':') {
            Some((name, passage)) => Some((name.to_owned(), passage.parse().ok()?)),
            None => Some((wanted, 1)),
        }
    });
    static PASSAGES: AtomicU32 = AtomicU32::new(0);

    let Some((wanted, passage)) = &*WANTED else { return false };
    wanted == name && PASSAGES.fetch_add(1, Ordering::SeqCst) + 1 == *passage
}

/// Panics in the long-lived task that `WECHAT_NOTIFIER_PANIC_TASK` names, once, when the file that
/// `WECHAT_NOTIFIER_PANIC_WHEN` names is there.
#[cfg(feature = "failpoints")]
pub async fn panics_when_told(task: &str) {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    static DONE: AtomicBool = AtomicBool::new(false);

    let wanted = std::env::var("WECHAT_NOTIFIER_PANIC_TASK").is_ok_and(|wanted| wanted == task);
    let Some(file) = std::env::var_os("WECHAT_NOTIFIER_PANIC_WHEN").filter(|_| wanted) else {
        return std::future::pending().await;
    };
    while !std::path::Path::new(&file).exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(DONE.swap(true, Ordering::SeqCst), "panic of {task}");
    std::future::pending().await
}

/// Nothing, outside of tests.
#[cfg(not(feature = "failpoints"))]
pub fn panics_when_told(_task: &str) -> std::future::Pending<()> {
    std::future::pending()
}

/// Nothing, outside of tests.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn crash_point(_name: &str) {}

/// Nothing, outside of tests.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn panic_point(_name: &str) {}

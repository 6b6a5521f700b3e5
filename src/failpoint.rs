//! Crash points: named arrows of the delivery protocol at which a test aborts the process.
//!
//! Without the `failpoints` feature a crash point is nothing at all.

/// Aborts the process here, as a power cut would, when `WECHAT_NOTIFIER_FAILPOINT` is `<name>` or `<name>:<n>` and this
/// is the n-th passage (the first without a number).
#[cfg(feature = "failpoints")]
pub fn crash_point(name: &str) {
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

    let Some((wanted, passage)) = &*WANTED else { return };
    if wanted == name && PASSAGES.fetch_add(1, Ordering::SeqCst) + 1 == *passage {
        std::process::abort();
    }
}

/// Nothing, outside of tests.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn crash_point(_name: &str) {}

//! The world a story happens in: a broker and a database shared by all tests, and for each test its own queues, schema,
//! simulated WeChat and daemons.

mod carrying;
mod daemon;
mod ledger;
mod proxy;
mod publishing;
mod servers;
mod wechat;
mod world;

pub use carrying::delivery_message;
pub use daemon::Daemon;
pub use ledger::Row;
pub use proxy::{Proxy, Roads};
pub use publishing::{EventBody, Exchange, event};
pub use servers::Servers;
pub use wechat::WeChat;
pub use world::{APP, COMPANY, TEMPLATE, World};

use std::time::{Duration, Instant};

/// Nothing in a test takes this long unless it is broken; a slow machine is not.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Waits until `look` finds something, and says what was missing when it does not.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A setting that `tests/run` gives, or a word on how to get it.
pub fn given(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests through ./tests/run"))
}

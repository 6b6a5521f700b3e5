//! Tasks that live equally long, each with a name.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

/// Tasks that must live until `until` is cancelled.
pub(super) struct Group {
    until: CancellationToken,
    tasks: TaskTracker,
    fates: Arc<Fates>,
}

/// Which tasks run, and whether one died before its time.
#[derive(Default)]
struct Fates {
    running: Mutex<Vec<&'static str>>,
    any_died: AtomicBool,
}

impl Group {
    pub(super) fn new(until: CancellationToken) -> Self {
        Self { until, tasks: TaskTracker::new(), fates: Arc::default() }
    }

    /// Starts a task. One that ends too early, or panics at any time, is logged, remembered, and cancels `alarm`.
    pub(super) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
        alarm: CancellationToken,
    ) {
        let (until, fates) = (self.until.clone(), self.fates.clone());
        fates.running().push(name);
        self.tasks.spawn(async move {
            let panicked = AssertUnwindSafe(task).catch_unwind().await.is_err();
            if panicked || !until.is_cancelled() {
                let how = if panicked { "panicked" } else { "ended by itself" };
                error!(task = name, "{name} {how}: stopping the process");
                fates.any_died.store(true, Ordering::Release);
                alarm.cancel();
            } else {
                debug!(task = name, "{name} has stopped");
            }
            fates.ended(name);
        });
    }

    /// Ends when all tasks have.
    pub(super) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The tasks that have not ended.
    pub(super) fn running(&self) -> Vec<&'static str> {
        self.fates.running().clone()
    }

    /// Did a task end before its time?
    pub(super) fn any_died(&self) -> bool {
        self.fates.any_died.load(Ordering::Acquire)
    }
}

impl Fates {
    fn ended(&self, name: &'static str) {
        let mut running = self.running();
        if let Some(at) = running.iter().position(|other| *other == name) {
            running.swap_remove(at);
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

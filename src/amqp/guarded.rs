//! The tasks behind a connection: their panics are noticed, and a close can wait for them.

use std::future::Future;

use tokio_util::task::TaskTracker;

use crate::lifecycle::{Task, Tasks};

/// Starts tasks. Clones share one list.
#[derive(Clone)]
pub(super) struct Guarded {
    tasks: Tasks,
    tracker: TaskTracker,
}

impl Guarded {
    pub(super) fn new(tasks: &Tasks) -> Self {
        Self { tasks: tasks.clone(), tracker: TaskTracker::new() }
    }

    /// Starts a task that [`Self::ended`] waits for.
    pub(super) fn spawn(&self, task: Task, work: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(self.tasks.guard(task, work));
    }

    /// Starts a task that ends when nobody needs it any more.
    pub(super) fn spawn_untracked(&self, task: Task, work: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.tasks.guard(task, work));
    }

    /// Ends when all tracked tasks have.
    pub(super) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

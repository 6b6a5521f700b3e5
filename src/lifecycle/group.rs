//! Tasks that live equally long.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::tasks::{Task, Tasks};

/// Tasks that must live until `until` is cancelled.
pub(super) struct Group {
    until: CancellationToken,
    tracker: TaskTracker,
    tasks: Tasks,
    running: Arc<Running>,
}

/// Which tasks run.
#[derive(Default)]
struct Running(Mutex<Vec<&'static str>>);

impl Group {
    pub(super) fn new(until: CancellationToken, tasks: Tasks) -> Self {
        Self { until, tracker: TaskTracker::new(), tasks, running: Arc::default() }
    }

    /// Starts a task. One that ends too early, or panics at any time, has died, and the process stops.
    pub(super) fn spawn(&self, task: Task, work: impl Future<Output = ()> + Send + 'static) {
        let tasks = self.tasks.clone();
        self.start(task, async move { tasks.run(task, work).await });
    }

    /// Starts a task that is started again after a panic. One that ends too early has died.
    pub(super) fn keep<F, W>(&self, task: Task, work: W)
    where
        F: Future<Output = ()> + Send + 'static,
        W: Fn() -> F + Send + 'static,
    {
        let (until, watch) = (self.until.clone(), self.tasks.restarting(task, work));
        self.start(task, async move {
            until.run_until_cancelled(watch).await;
            true
        });
    }

    /// `work` says whether it ended in order; if not, that it died is known already.
    fn start(&self, task: Task, work: impl Future<Output = bool> + Send + 'static) {
        let (until, running, tasks) = (self.until.clone(), self.running.clone(), self.tasks.clone());
        running.lock().push(task.as_str());
        self.tracker.spawn(async move {
            match work.await {
                true if until.is_cancelled() => debug!(task = task.as_str(), "task stopped"),
                true => tasks.died(task, "ended by itself"),
                false => {}
            }
            running.ended(task.as_str());
        });
    }

    /// Ends when all tasks have.
    pub(super) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// The tasks that have not ended.
    pub(super) fn running(&self) -> Vec<&'static str> {
        self.running.lock().clone()
    }
}

impl Running {
    fn ended(&self, name: &'static str) {
        let mut running = self.lock();
        if let Some(at) = running.iter().position(|other| *other == name) {
            running.swap_remove(at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Every long-lived task of the process, and what happens when one panics: a metric, an error in the log, not ready, and then
//! a restart of the task or a failing exit. None dies unnoticed.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::heartbeats::{Beat, Heartbeats};
use crate::failpoint::panics_when_told;

/// First and longest pause before a task that panicked is started again.
const FIRST_RESTART: Duration = Duration::from_secs(1);
const LONGEST_RESTART: Duration = Duration::from_secs(60);
/// A task that has run for this long since its restart counts as working again.
const WORKS_AFTER: Duration = Duration::from_secs(10);

/// A loop that shows no sign of life for this long hangs. Each beats in every iteration, at the latest every 15 s, and the slowest
/// thing one waits for in between, a statement, fails after thirty.
const MAX_SILENCE: Duration = Duration::from_secs(60);

/// What to do about a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterPanic {
    /// Others wait for this task, and what it held is lost: the process drains and ends with a failing exit code, so that
    /// its supervisor starts it again.
    Exit,
    /// It holds nothing that the next run does not find again.
    Restart,
}

macro_rules! tasks {
    ($($(#[$doc:meta])* $task:ident = $name:literal, $after:ident;)+) => {
        /// The long-lived tasks; a closed list. Whatever is started for longer than one message is on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Task { $($(#[$doc])* $task,)+ }

        impl Task {
            /// Every task. A test makes each of them panic.
            pub const ALL: &[Self] = &[$(Self::$task,)+];

            /// The name in logs and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$task => $name,)+ }
            }

            /// What happens when it panics.
            pub const fn after_panic(self) -> AfterPanic {
                match self { $(Self::$task => AfterPanic::$after,)+ }
            }
        }
    };
}

tasks! {
    /// Receives fresh events.
    Events = "events", Exit;
    /// Receives delivery messages that come back from the ladder.
    Deliveries = "deliveries", Exit;
    /// Moves dead letters from the broker to the archive.
    Archiver = "archiver", Exit;
    /// Serves metrics and health.
    OpsListener = "ops listener", Exit;
    /// Serves the API.
    ApiListener = "api listener", Exit;
    /// Fetches and shares access tokens.
    TokenRefresher = "token refresher", Exit;
    /// Listens for tokens that other processes have stored.
    TokenListener = "token listener", Exit;
    /// Asks PostgreSQL who gets an event.
    PlanBatch = "plan batch", Exit;
    /// Writes rows that need no attempt.
    RecordBatch = "record batch", Exit;
    /// Claims deliveries.
    ClaimBatch = "claim batch", Exit;
    /// Records outcomes.
    SettleBatch = "settle batch", Exit;
    /// Keeps one connection to the broker.
    BrokerLink = "broker connection", Exit;
    /// Publishes with confirms.
    Publisher = "publisher", Exit;
    /// Subscribes to one queue, again after each loss of the connection.
    Subscriber = "subscriber", Exit;
    /// Writes the acks of one channel.
    AckWriter = "ack writer", Exit;
    /// Consumes the lane of one app.
    Lane = "lane", Restart;
    /// Starts such a task for each app that is met.
    NewLanes = "new lanes", Restart;
    /// Fills one app's bucket of permits.
    RatePermits = "rate permits", Restart;
    /// Follows the broker's connections.
    BrokerWatch = "broker watch", Restart;
    /// Checks whether PostgreSQL works.
    DatabaseWatch = "database watch", Restart;
    /// Looks for lanes with messages in them.
    LaneWatch = "lane watch", Restart;
    /// Checks whether messages in hand make progress.
    ProgressWatch = "progress watch", Restart;
    /// Counts dead letters.
    DeadLetterCensus = "dead letter census", Restart;
    /// Counts unfinished deliveries.
    UnfinishedCensus = "unfinished census", Restart;
    /// Purges old dead letters.
    DeadLetterRetention = "dead letter retention", Restart;
    /// Removes old deliveries from the ledger.
    LedgerRetention = "ledger retention", Restart;
    /// Keeps the table of pauses up to date.
    Pauses = "table of pauses", Restart;
    /// Records what became of replayed dead letters.
    ReplayWatch = "replay watch", Restart;
    /// Publishes a probe to the broker regularly.
    BrokerProbe = "broker probe", Restart;
    /// Counts what waits in each queue.
    QueueDepths = "queue depths", Restart;
    /// Follows rates and quotas.
    Limits = "limits watch", Restart;
    /// Follows the consumer of fresh events.
    ConsumerWatch = "consumer watch", Restart;
}

/// What is reported of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    Panicked,
    /// It was started again, and has worked for a while.
    Works,
}

/// Called with each report, from the task itself.
pub type NewsHook = Box<dyn Fn(Task, News) + Send + Sync>;

/// Supervises long-lived tasks. Clones share one state. Outside of a daemon, for a command, a panic is only logged.
#[derive(Clone, Default)]
pub struct Tasks(Arc<Watch>);

#[derive(Default)]
struct Watch {
    /// Cancelled when the process must end.
    alarm: CancellationToken,
    any_died: AtomicBool,
    hook: OnceLock<NewsHook>,
    heartbeats: Heartbeats,
}

impl Tasks {
    /// `alarm` is cancelled when a task dies that the process needs.
    pub(super) fn new(alarm: CancellationToken) -> Self {
        Self(Arc::new(Watch { alarm, ..Watch::default() }))
    }

    /// Calls `hook` from now on. There is one; a second one is ignored.
    pub fn tell(&self, hook: NewsHook) {
        let _second = self.0.hook.set(hook);
    }

    /// The heartbeats of the loops.
    pub fn heartbeats(&self) -> &Heartbeats {
        &self.0.heartbeats
    }

    /// The heartbeat of one loop, which must beat at least once in [`MAX_SILENCE`] from now on.
    pub fn beat(&self, task: Task) -> Beat {
        self.0.heartbeats.register(task.as_str(), MAX_SILENCE)
    }

    /// Has a task died that the process needs?
    pub(super) fn any_died(&self) -> bool {
        self.0.any_died.load(Ordering::Acquire)
    }

    /// The work of a task that a panic ends, and with it the process.
    pub fn guard<F: Future<Output = ()> + Send>(
        &self,
        task: Task,
        work: F,
    ) -> impl Future<Output = ()> + Send + use<F> {
        let tasks = self.clone();
        async move {
            tasks.run(task, work).await;
        }
    }

    /// The same, saying whether the work ended in order.
    pub(super) async fn run(&self, task: Task, work: impl Future<Output = ()> + Send) -> bool {
        let panicked = self.panicked(task, work).await;
        if panicked {
            self.died(task, "panicked");
        }
        !panicked
    }

    /// The work of a task that is started again after a panic. It ends when the work ends in order.
    pub fn restarting<F, W>(&self, task: Task, work: W) -> impl Future<Output = ()> + Send + use<F, W>
    where
        F: Future<Output = ()> + Send,
        W: Fn() -> F + Send,
    {
        let tasks = self.clone();
        async move {
            let mut pause = FIRST_RESTART;
            let mut is_down = false;
            loop {
                let mut run = std::pin::pin!(tasks.panicked(task, work()));
                let first = tokio::time::timeout(WORKS_AFTER, &mut run).await;
                let panicked = match first {
                    Ok(panicked) => panicked,
                    Err(_still_running) => {
                        pause = FIRST_RESTART;
                        if std::mem::take(&mut is_down) {
                            tasks.news(task, News::Works);
                        }
                        run.await
                    }
                };
                if !panicked {
                    if is_down {
                        tasks.news(task, News::Works);
                    }
                    return;
                }
                is_down = true;
                tasks.news(task, News::Panicked);
                let name = task.as_str();
                error!(
                    task = name,
                    restart_in_s = pause.as_secs(),
                    "{name} panicked and is started again; please report \
                    the panic above in this log"
                );
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(LONGEST_RESTART);
            }
        }
    }

    /// A task that the process needs has died.
    pub(super) fn died(&self, task: Task, how: &'static str) {
        let name = task.as_str();
        error!(task = name, "{name} {how}: stopping the process");
        self.0.any_died.store(true, Ordering::Release);
        self.news(task, News::Panicked);
        self.0.alarm.cancel();
    }

    async fn panicked(&self, task: Task, work: impl Future<Output = ()> + Send) -> bool {
        let work = async {
            tokio::select! {
                biased;
                () = panics_when_told(task.as_str()) => {}
                () = work => {}
            }
        };
        AssertUnwindSafe(work).catch_unwind().await.is_err()
    }

    fn news(&self, task: Task, news: News) {
        if let Some(hook) = self.0.hook.get() {
            hook(task, news);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU32;

    use super::*;

    type Told = Arc<Mutex<Vec<(Task, News)>>>;

    fn news(told: &Told) -> Vec<News> {
        told.lock().unwrap().iter().map(|(_, news)| *news).collect()
    }

    /// A watch, and what it was told.
    fn watch() -> (Tasks, Told) {
        let (tasks, told) = (Tasks::new(CancellationToken::new()), Told::default());
        let heard = Arc::clone(&told);
        tasks.tell(Box::new(move |task, news| heard.lock().unwrap().push((task, news))));
        (tasks, told)
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_of_an_indispensable_task_raises_the_alarm() {
        let (tasks, told) = watch();
        tasks.guard(Task::ClaimBatch, async { panic!("on purpose") }).await;
        assert!(tasks.any_died() && tasks.0.alarm.is_cancelled());
        assert_eq!(*told.lock().unwrap(), [(Task::ClaimBatch, News::Panicked)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_in_order_is_no_news() {
        let (tasks, told) = watch();
        tasks.guard(Task::Lane, async {}).await;
        tasks.restarting(Task::Lane, || async {}).await;
        assert!(!tasks.any_died() && told.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_is_started_again_until_it_works() {
        let (tasks, told) = watch();
        let runs = AtomicU32::new(0);
        let work = || async {
            assert!(runs.fetch_add(1, Ordering::Relaxed) >= 2, "on purpose");
            tokio::time::sleep(2 * WORKS_AFTER).await;
        };
        tasks.restarting(Task::LaneWatch, work).await;
        assert!(!tasks.any_died(), "the process goes on");
        assert_eq!(news(&told), [News::Panicked, News::Panicked, News::Works]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_the_rest_of_its_work_after_a_panic_works() {
        let (tasks, told) = watch();
        let runs = AtomicU32::new(0);
        let work = || async { assert!(runs.fetch_add(1, Ordering::Relaxed) >= 1, "on purpose") };
        tasks.restarting(Task::RatePermits, work).await;
        assert_eq!(news(&told), [News::Panicked, News::Works]);
    }
}

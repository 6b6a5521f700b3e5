//! From the first task to the exit code: soft stop, hard stop, and heartbeats.
//!
//! ```text
//! running ──signal, or a task died──► soft stop: take no more, finish what is in flight
//!                                        │ the workers have ended, or
//!                                        │ a second signal, or `shutdown.drain` is over
//!                                        ▼
//!                                     hard stop: end now ──all ended, or a second later──► exit
//! ```
//!
//! Workers (consumers, the pipeline) end on the soft stop; what they need until then (connections, batchers, listeners) is
//! support and ends on the hard stop, so that nobody drains into a closed door.

mod group;
mod heartbeats;
mod readiness;
mod tasks;

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use group::Group;
pub use heartbeats::{Beat, Heartbeats, Stalled};
pub use readiness::{Missing, Part, Readiness};
pub use tasks::{AfterPanic, News, NewsHook, Task, Tasks};

/// How long tasks may take to notice a hard stop. Claims survive us, so there is nothing worth waiting for.
const HARD_STOP_GRACE: Duration = Duration::from_secs(1);

/// The tasks of a process and its two stops. Stops are sticky: once cancelled, a token stays so.
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    workers: Group,
    support: Group,
    tasks: Tasks,
    /// Signals that came after the soft stop.
    more_signals: mpsc::Receiver<SignalKind>,
    drain: Duration,
}

/// How a process ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Asked to stop, and did: exit code 0. That holds as well where the drain ran out of time and cut work off, since
    /// nothing is lost by it; a warning names what was cut.
    Clean,
    /// A task ended by itself or panicked: exit code 1, so that a supervisor starts it again.
    TaskDied,
    /// A second signal cut the drain off: exit code 128 + the signal's number, as shells do it (130, 143).
    Interrupted(u8),
}

impl Ending {
    /// The number for the operating system.
    pub const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::TaskDied => 1,
            Self::Interrupted(signal) => 128 + signal,
        }
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(ending.code())
    }
}

impl Lifecycle {
    /// Listens for SIGTERM and SIGINT from now on: the first one is a soft stop even before [`Self::wait`], so that a start
    /// that waits for something can be called off. `drain` is how long a soft stop may take.
    ///
    /// # Errors
    /// When the operating system gives no signal handler.
    pub fn new(drain: Duration) -> std::io::Result<Self> {
        Ok(Self::with_signals(drain, listen_for_signals()?))
    }

    fn with_signals(drain: Duration, signals: mpsc::Receiver<SignalKind>) -> Self {
        let hard = CancellationToken::new();
        // A hard stop is a soft stop as well.
        let soft = hard.child_token();
        let tasks = Tasks::new(soft.clone());
        let workers = Group::new(soft.clone(), tasks.clone());
        let support = Group::new(hard.clone(), tasks.clone());
        let (pass_on, more_signals) = mpsc::channel(1);
        tokio::spawn(stop_on_first(signals, soft.clone(), pass_on));
        Self { soft, hard, workers, support, tasks, more_signals, drain }
    }

    /// Cancelled when no new work may start.
    pub fn soft(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Cancelled when everything must end now: the drain has ended, or was cut off.
    pub fn hard(&self) -> CancellationToken {
        self.hard.clone()
    }

    /// Runs a worker: it must live until the soft stop and then end by itself, after finishing what it has begun. One that
    /// ends before, or panics at any time, stops the process and makes its exit code a failing one.
    pub fn supervise(&self, task: Task, worker: impl Future<Output = ()> + Send + 'static) {
        self.workers.spawn(task, worker);
    }

    /// As [`Self::supervise`], for what the workers need while they drain: it must live until the hard stop.
    pub fn support(&self, task: Task, work: impl Future<Output = ()> + Send + 'static) {
        self.support.spawn(task, work);
    }

    /// As [`Self::support`], for a watch that is started again after a panic, and ended by the hard stop.
    pub fn keep<F, W>(&self, task: Task, work: W)
    where
        F: Future<Output = ()> + Send + 'static,
        W: Fn() -> F + Send + 'static,
    {
        self.support.keep(task, work);
    }

    /// As [`Self::keep`], for a loop that shows that it turns.
    pub fn keep_beating<F, W>(&self, task: Task, work: W)
    where
        F: Future<Output = ()> + Send + 'static,
        W: Fn(Arc<Beat>) -> F + Send + 'static,
    {
        let beat = Arc::new(self.tasks.beat(task));
        self.support.keep(task, move || work(Arc::clone(&beat)));
    }

    /// For those who start long-lived tasks of their own.
    pub fn tasks(&self) -> Tasks {
        self.tasks.clone()
    }

    /// Waits for the first reason to stop, stops, and says how it ended.
    pub async fn wait(mut self) -> Ending {
        self.soft.cancelled().await;
        let interrupted = self.until_drained().await;
        self.hard.cancel();
        let all = async { tokio::join!(self.workers.ended(), self.support.ended()) };
        if tokio::time::timeout(HARD_STOP_GRACE, all).await.is_err() {
            let tasks = [self.workers.running(), self.support.running()].concat();
            warn!(?tasks, "some tasks did not end in time; exiting without them");
        }
        self.ending(interrupted)
    }

    /// Ends when all workers have; else on a second signal, which it answers with, or when the drain is over.
    async fn until_drained(&mut self) -> Option<SignalKind> {
        tokio::select! {
            () = self.workers.ended() => None,
            Some(signal) = self.more_signals.recv() => {
                warn!(tasks = ?self.workers.running(), "second signal ({}): stopping now", name_of(signal));
                Some(signal)
            }
            () = tokio::time::sleep(self.drain) => {
                warn!(tasks = ?self.workers.running(), "shutdown.drain ({:?}) is over: stopping now", self.drain);
                None
            }
        }
    }

    fn ending(&self, interrupted: Option<SignalKind>) -> Ending {
        match interrupted.map(|signal| u8::try_from(signal.as_raw_value())) {
            _ if self.tasks.any_died() => Ending::TaskDied,
            Some(signal) => Ending::Interrupted(signal.unwrap_or_default()),
            None => Ending::Clean,
        }
    }
}

/// Stops softly on the first signal and passes on those that come after the soft stop, whatever caused it.
async fn stop_on_first(
    mut signals: mpsc::Receiver<SignalKind>,
    soft: CancellationToken,
    pass_on: mpsc::Sender<SignalKind>,
) {
    while let Some(signal) = signals.recv().await {
        if soft.is_cancelled() {
            let _nobody_waits = pass_on.send(signal).await;
        } else {
            info!("{} received: taking no more work, finishing what is in flight", name_of(signal));
            soft.cancel();
        }
    }
}

/// The signals that ask us to stop, in the order they come.
fn listen_for_signals() -> std::io::Result<mpsc::Receiver<SignalKind>> {
    // Two are told apart; a third changes nothing.
    let (heard, signals) = mpsc::channel(2);
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut source, heard) = (signal(kind)?, heard.clone());
        tokio::spawn(async move {
            while source.recv().await.is_some() {
                let _full = heard.try_send(kind);
            }
        });
    }
    Ok(signals)
}

fn name_of(signal: SignalKind) -> &'static str {
    if signal == SignalKind::interrupt() { "SIGINT" } else { "SIGTERM" }
}

#[cfg(test)]
mod tests;

//! Lanes: the queue of one app, where its messages wait alone while the app is paused or has more than its share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::app_runtime::AppRuntime;
use super::intake::Intake;
use crate::admission::Rank;
use crate::amqp::{Broker, Subscription};
use crate::health::{Ends, State};
use crate::lifecycle::{Task, Tasks};

/// Unacked messages of a lane per process: enough to use its slots, too few to crowd out fresh events.
const PREFETCH: u16 = 64;
/// How often a lane looks whether its breaker is closed again, though nobody said so.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Consumes the lanes of the apps that this process meets.
pub(super) struct Lanes {
    pub(super) intake: Arc<Intake>,
    pub(super) broker: Broker,
    pub(super) max_hold: Duration,
    /// Apps in the order in which they are met.
    pub(super) newly_met: Mutex<mpsc::UnboundedReceiver<Arc<AppRuntime>>>,
    /// Looks after the lanes' tasks.
    pub(super) guard: Tasks,
    pub(super) tasks: TaskTracker,
    pub(super) soft_stop: CancellationToken,
}

impl Lanes {
    /// Attends every app from the first time it is met, in tasks of their own.
    pub(super) fn start(self) {
        let (guard, tasks, lanes) = (self.guard.clone(), self.tasks.clone(), Arc::new(self));
        tasks.spawn(guard.restarting(Task::Lane, move || Arc::clone(&lanes).attend_all()));
    }

    async fn attend_all(self: Arc<Self>) {
        let mut newly_met = self.newly_met.lock().await;
        loop {
            let app = tokio::select! {
                () = self.soft_stop.cancelled() => return,
                app = newly_met.recv() => app,
            };
            // The other end lives as long as the process works.
            let Some(app) = app else { return };
            let lane = Arc::new(Lane { lanes: Arc::clone(&self), app });
            self.tasks.spawn(self.guard.restarting(Task::Lane, move || Arc::clone(&lane).attend()));
        }
    }
}

/// One app's lane in this process.
struct Lane {
    lanes: Arc<Lanes>,
    app: Arc<AppRuntime>,
}

impl Lane {
    /// The app's breaker follows its token, and its lane is consumed once there is something in it. Until the soft stop, or
    /// until the app's row is gone.
    async fn attend(self: Arc<Self>) {
        let soft_stop = &self.lanes.soft_stop;
        let consumed = async {
            tokio::select! {
                () = soft_stop.cancelled() => return,
                () = self.app.lane_filled.notified() => {}
            }
            self.consume().await;
        };
        tokio::select! {
            () = self.app.follow_token() => {}
            () = consumed => {}
        }
    }

    /// Consumes as the breaker allows: fully while it is closed, one message at a time while probing, not at all in between.
    async fn consume(&self) {
        let mut state = self.app.breaker.watch();
        let soft_stop = &self.lanes.soft_stop;
        while !soft_stop.is_cancelled() {
            let ends = state.borrow_and_update().ends();
            let next_look = match ends {
                None => {
                    self.feed(&mut state).await;
                    continue;
                }
                Some(Ends::ByProbe { at, .. }) if at <= Instant::now() => {
                    self.probe(&mut state).await;
                    continue;
                }
                Some(Ends::ByProbe { at, .. }) => at,
                Some(Ends::Probing | Ends::ByToken | Ends::ByQuota { .. } | Ends::ByHand) => {
                    Instant::now() + LOOK_EVERY
                }
            };
            tokio::select! {
                () = soft_stop.cancelled() => {}
                () = tokio::time::sleep_until(next_look) => {}
                _ = state.changed() => {}
            }
        }
    }

    /// Takes in what the lane holds until the breaker opens.
    async fn feed(&self, state: &mut watch::Receiver<State>) {
        let prefetch = self.prefetch();
        let mut lane = self.subscribe(prefetch);
        // Until the app's rate asks for another window.
        while self.prefetch() == prefetch {
            tokio::select! {
                biased;
                () = self.lanes.soft_stop.cancelled() => break,
                // The breaker is the process's own and never goes away.
                _ = state.changed() => if state.borrow_and_update().is_open() { break },
                next = lane.next() => match next {
                    Some(incoming) => {
                        self.lanes.intake.spawn(incoming, Rank::Lane);
                    }
                    None => break,
                },
            }
        }
        lane.cancel().await;
    }

    /// Lets one message of the lane try whether the app works again; a fresh event may be quicker.
    async fn probe(&self, state: &mut watch::Receiver<State>) {
        let mut lane = self.subscribe(1);
        tokio::select! {
            biased;
            () = self.lanes.soft_stop.cancelled() => {}
            _ = state.changed() => {}
            next = lane.next() => if let Some(incoming) = next {
                self.lanes.intake.take_in(incoming, Rank::Lane).await;
            },
        }
        lane.cancel().await;
    }

    fn prefetch(&self) -> u16 {
        let (settings, hold) = (self.app.settings(), self.lanes.max_hold);
        let in_hand = self.app.limits.most_in_hand(&settings, hold, usize::from(PREFETCH));
        u16::try_from(in_hand).unwrap_or(PREFETCH)
    }

    fn subscribe(&self, prefetch: u16) -> Subscription {
        let broker = &self.lanes.broker;
        broker.consume(&broker.topology().lane(&self.app.app_id), prefetch)
    }
}

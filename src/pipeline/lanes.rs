//! Lanes: the queue of one app, where its messages wait alone while the app is paused or has more than its share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::apps::AppWatch;
use super::envelope::Envelope;
use super::intake::take_in;
use super::{Left, Pipeline};
use crate::admission::Rank;
use crate::amqp::{Route, Subscription};
use crate::domain::delivery::{Delivery, Progress};
use crate::domain::event::Event;
use crate::domain::ids::AppId;
use crate::health::{Breaker, Ends, State};
use crate::lifecycle::Task;

/// Unacked messages of a lane per process: enough to use its slots, too few to crowd out fresh events.
const PREFETCH: u16 = 64;
/// How often a lane looks whether its breaker is open again, though nobody said so.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// The apps this process attends; each with a word to its lane that there is something in it.
#[derive(Default)]
pub(super) struct Lanes(Mutex<HashMap<AppId, Arc<Notify>>>);

impl Lanes {
    fn lock(&self) -> MutexGuard<'_, HashMap<AppId, Arc<Notify>>> {
        // Nothing panics under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipeline {
    /// From the first time an app is met: its breaker follows its token, and its lane is consumed once there is one.
    pub(super) fn attend(self: &Arc<Self>, app_id: &AppId, app: &AppWatch) -> Arc<Notify> {
        let mut lanes = self.lanes.lock();
        if let Some(filled) = lanes.get(app_id) {
            return Arc::clone(filled);
        }
        let filled = Arc::new(Notify::new());
        lanes.insert(app_id.clone(), Arc::clone(&filled));
        let lane = Arc::new(Lane {
            breaker: self.breakers.of(app_id),
            pipeline: Arc::clone(self),
            app_id: app_id.clone(),
            filled: Arc::clone(&filled),
        });
        let app = app.clone();
        let attended = move || Arc::clone(&lane).attend(app.clone());
        self.tasks.spawn(self.guard.restarting(Task::Lane, attended));
        filled
    }

    /// Does this incoming belong in its app's lane, rather than here?
    pub(super) fn belongs_in_lane(self: &Arc<Self>, app: &AppWatch, envelope: &Envelope) -> bool {
        let app_id = &app.app().app_id;
        self.attend(app_id, app);
        envelope.rank == Rank::Fresh && (self.breakers.of(app_id).is_open() || self.is_over_share(&app.app()))
    }

    /// Hands one delivery to its app's lane.
    pub(super) async fn defer_to_lane(
        self: &Arc<Self>,
        delivery: &Delivery,
        envelope: &Envelope,
        progress: Progress,
    ) -> Result<(), Left> {
        let app_id = &delivery.event.app_id;
        self.publish(Route::queue(self.topology.lane(app_id)), envelope.delivery_message(delivery, progress))
            .await?;
        self.lane_is_filled(app_id);
        Ok(())
    }

    /// Moves an incoming to its app's lane as it is: uncharged, and before any SQL.
    pub(super) async fn move_to_lane(
        self: &Arc<Self>,
        app: &AppWatch,
        envelope: &Envelope,
    ) -> Result<(), Left> {
        let app_id = app.app().app_id.clone();
        self.publish(Route::queue(self.topology.lane(&app_id)), envelope.message.clone()).await?;
        // Only now: a queue that two channels declare at once may take its consumer's connection down (RabbitMQ 3.10).
        self.attend(&app_id, app).notify_one();
        Ok(())
    }

    /// The same for an event whose deliveries are written down already, when its app is paused in the middle.
    pub(super) async fn event_to_lane(
        self: &Arc<Self>,
        event: &Event,
        envelope: &Arc<Envelope>,
    ) -> Result<(), Left> {
        match self.tokens.watch(&event.app_id) {
            Some(page) => self.move_to_lane(&AppWatch::new(page), envelope).await,
            // The app's row is gone: the next look at the event finds that out.
            None => self.defer_event(envelope, self.settings.ladder.first()).await,
        }
    }

    /// Somebody else has put something into the lane of this app.
    pub fn lane_is_filled(self: &Arc<Self>, app_id: &AppId) {
        if let Some(page) = self.tokens.watch(app_id) {
            self.attend(app_id, &AppWatch::new(page)).notify_one();
        }
    }
}

/// One app's lane in this process.
struct Lane {
    pipeline: Arc<Pipeline>,
    app_id: AppId,
    breaker: Arc<Breaker>,
    filled: Arc<Notify>,
}

impl Lane {
    /// Until the soft stop, or until the app's row is gone; whoever registers it again is met anew.
    async fn attend(self: Arc<Self>, mut app: AppWatch) {
        let soft = self.pipeline.stops.soft.clone();
        let consumed = async {
            tokio::select! {
                () = soft.cancelled() => return,
                () = self.filled.notified() => {}
            }
            self.consume().await;
        };
        tokio::select! {
            () = app.tell(&self.breaker) => { self.pipeline.lanes.lock().remove(&self.app_id); }
            () = consumed => {}
        }
    }

    /// Consumes as the breaker allows: fully while open, one message at a time while probing, not at all in between.
    async fn consume(&self) {
        let mut state = self.breaker.watch();
        let soft = &self.pipeline.stops.soft;
        while !soft.is_cancelled() {
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
                () = soft.cancelled() => {}
                () = tokio::time::sleep_until(next_look) => {}
                _ = state.changed() => {}
            }
        }
    }

    /// Takes in what the lane holds until the breaker shuts.
    async fn feed(&self, state: &mut watch::Receiver<State>) {
        let prefetch = self.prefetch();
        let mut lane = self.subscribe(prefetch);
        // Until the app's rate asks for another window.
        while self.prefetch() == prefetch {
            tokio::select! {
                biased;
                () = self.pipeline.stops.soft.cancelled() => break,
                // The breaker is the process's own and never goes away.
                _ = state.changed() => if state.borrow_and_update().is_open() { break },
                next = lane.next() => match next {
                    Some(incoming) => {
                        self.pipeline.tasks.spawn(take_in(Arc::clone(&self.pipeline), incoming, Rank::Lane));
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
            () = self.pipeline.stops.soft.cancelled() => {}
            _ = state.changed() => {}
            next = lane.next() => if let Some(incoming) = next {
                take_in(Arc::clone(&self.pipeline), incoming, Rank::Lane).await;
            },
        }
        lane.cancel().await;
    }

    fn prefetch(&self) -> u16 {
        let in_hand = self.pipeline.lane_in_hand(&self.app_id, usize::from(PREFETCH));
        u16::try_from(in_hand).unwrap_or(PREFETCH)
    }

    fn subscribe(&self, prefetch: u16) -> Subscription {
        self.pipeline.broker.consume(&self.pipeline.topology.lane(&self.app_id), prefetch)
    }
}

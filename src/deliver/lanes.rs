//! Lanes: the queue of one app, where its messages wait alone while the app is paused or has more than its share.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::apps;
use super::gates::{Ends, Gate, Pause};
use super::intake::take_in;
use super::origin::Origin;
use super::slots::Rank;
use super::{Left, Pipeline};
use crate::amqp::{Route, Subscription};
use crate::domain::ids::AppId;
use crate::token::AppState;

/// Unacked messages of a lane per process: enough to use its slots, too few to crowd out fresh events.
const PREFETCH: u16 = 64;
/// How often a process looks for lanes that others have filled.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The lanes this process consumes.
#[derive(Default)]
pub(super) struct Lanes(Mutex<HashSet<AppId>>);

impl Pipeline {
    /// Keeps the app's gate in step with its token, and its lane consumed, from the first time the app is met.
    pub(super) fn attend(self: &Arc<Self>, app_id: &AppId, page: &watch::Receiver<AppState>) {
        let mut attended = self.lanes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if attended.contains(app_id) {
            return;
        }
        attended.insert(app_id.clone());
        let gate = self.gates.of(app_id);
        let follow = apps::follow_token(page.clone(), Arc::clone(&gate));
        let (soft, pipeline, app_id) = (self.stops.soft.clone(), Arc::clone(self), app_id.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = soft.cancelled() => {}
                () = follow => pipeline.forget(&app_id),
                () = consume(&pipeline, &app_id, &gate) => {}
            }
        });
    }

    /// The app's row is gone: whoever registers it again is met anew.
    fn forget(&self, app_id: &AppId) {
        self.lanes.0.lock().unwrap_or_else(PoisonError::into_inner).remove(app_id);
    }

    /// Does this incoming belong in its app's lane, rather than here?
    pub(super) fn is_for_the_lane(&self, app_id: &AppId) -> bool {
        self.gates.of(app_id).is_shut() || self.slots.is_over_share(app_id)
    }

    /// Moves an incoming to its app's lane as it is: uncharged, and before any SQL.
    pub(super) async fn move_to_lane(&self, app_id: &AppId, origin: &Origin) -> Result<(), Left> {
        let route = Route::queue(self.topology.lane(app_id));
        self.publish(route, origin.message.clone()).await
    }
}

/// Looks for lanes with messages in them, left by an earlier process or filled by another, and attends their apps.
pub async fn look_for_filled(pipeline: Arc<Pipeline>) {
    loop {
        for app_id in pipeline.tokens.apps() {
            if let Some(page) = pipeline.tokens.watch(&app_id) {
                pipeline.attend(&app_id, &page);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Consumes the lane as the gate allows: fully while open, one message at a time while probing, not at all in between.
async fn consume(pipeline: &Arc<Pipeline>, app_id: &AppId, gate: &Arc<Gate>) {
    let mut state = gate.watch();
    loop {
        let now = *state.borrow_and_update();
        match now {
            None => feed(pipeline, app_id, &mut state).await,
            Some(Pause { ends: Ends::ByProbe { at }, .. }) if at <= Instant::now() => {
                probe(pipeline, app_id, &mut state).await;
            }
            Some(Pause { ends: Ends::ByProbe { at }, .. }) => {
                tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    _ = state.changed() => {}
                }
            }
            Some(Pause { ends: Ends::Probing | Ends::ByToken, .. }) => {
                let _ = state.changed().await;
            }
        }
    }
}

/// Takes in what the lane holds until the gate shuts.
async fn feed(pipeline: &Arc<Pipeline>, app_id: &AppId, state: &mut watch::Receiver<Option<Pause>>) {
    let mut lane = pipeline.broker.consume(&pipeline.topology.lane(app_id), PREFETCH);
    let stopped = pipeline.stops.soft.clone();
    loop {
        tokio::select! {
            biased;
            () = stopped.cancelled() => break,
            _ = state.wait_for(Option::is_some) => break,
            next = lane.next() => match next {
                Some(incoming) => {
                    pipeline.tasks.spawn(take_in(Arc::clone(pipeline), incoming, Rank::Lane));
                }
                None => break,
            },
        }
    }
    lane.cancel().await;
}

/// Lets one message of the lane try whether the app works again; a fresh event may be quicker.
async fn probe(pipeline: &Arc<Pipeline>, app_id: &AppId, state: &mut watch::Receiver<Option<Pause>>) {
    let mut lane: Subscription = pipeline.broker.consume(&pipeline.topology.lane(app_id), 1);
    let stopped = pipeline.stops.soft.clone();
    tokio::select! {
        biased;
        () = stopped.cancelled() => {}
        _ = state.changed() => {}
        next = lane.next() => if let Some(incoming) = next {
            take_in(Arc::clone(pipeline), incoming, Rank::Lane).await;
        },
    }
    lane.cancel().await;
}

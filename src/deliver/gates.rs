//! Which apps may be sent to: an app whose own trouble WeChat reports is paused, and tried again by one probe at a time. So
//! are its templates, each alone. And an operator may pause either.

mod gate;
mod notices;
mod pause;
mod templates;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::domain::ids::{AppId, TemplateId};
use crate::metrics::Metrics;

pub(super) use gate::{Asked, Gate, Pass, Probe, TemplateProbe};
use notices::Herald;
pub(super) use notices::Notice;
pub(super) use pause::{Ends, Facts, State};

/// The gates of all apps this process has met.
#[derive(Clone)]
pub(super) struct Gates {
    gates: Arc<Mutex<HashMap<AppId, Arc<Gate>>>>,
    /// Have operators' pauses been read yet?
    informed: Arc<watch::Sender<bool>>,
    herald: Herald,
}

/// What operators have paused of one app.
#[derive(Default)]
pub(super) struct ByHand {
    pub(super) app: Option<Arc<Facts>>,
    pub(super) templates: HashMap<TemplateId, Arc<Facts>>,
}

impl Gates {
    /// All open; but nothing should pass before [`Self::set_by_hand`].
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let herald = Herald { metrics, changed: Arc::new(Notify::new()) };
        Self { gates: Arc::default(), informed: Arc::new(watch::Sender::new(false)), herald }
    }

    /// The gate of an app; open where it was never met.
    pub(super) fn of(&self, app_id: &AppId) -> Arc<Gate> {
        let mut gates = self.lock();
        if let Some(gate) = gates.get(app_id) {
            return Arc::clone(gate);
        }
        let gate = Arc::new(Gate::new(app_id, &self.herald));
        gates.insert(app_id.clone(), Arc::clone(&gate));
        gate
    }

    /// Waits until it is known what operators have paused: a process that starts must not send over their heads.
    pub(super) async fn informed(&self) {
        if *self.informed.borrow() {
            return;
        }
        // The sender is our own and never goes away.
        let _ = self.informed.subscribe().wait_for(|informed| *informed).await;
    }

    /// These, and no others, are paused by hand.
    pub(super) fn set_by_hand(&self, mut paused: HashMap<AppId, ByHand>) {
        for app_id in paused.keys() {
            self.of(app_id);
        }
        for gate in self.all() {
            let ByHand { app, templates } = paused.remove(&gate.app_id).unwrap_or_default();
            gate.by_hand(app, &templates);
        }
        self.informed.send_replace(true);
    }

    /// What this process has paused by itself, by app.
    pub(super) fn notices(&self) -> Vec<(AppId, Notice)> {
        let of_one = |gate: Arc<Gate>| {
            let app_id = gate.app_id.clone();
            gate.notices().into_iter().map(move |notice| (app_id.clone(), notice))
        };
        self.all().into_iter().flat_map(of_one).collect()
    }

    /// Waits until something has changed since this was asked last.
    pub(super) async fn changed(&self) {
        self.herald.changed.notified().await;
    }

    fn all(&self) -> Vec<Arc<Gate>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppId, Arc<Gate>>> {
        // Nothing panics under this lock.
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

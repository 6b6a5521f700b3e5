//! The breakers of all apps. An app whose own failure WeChat reports is paused, and tried again by one probe at a time. So is
//! each of its templates alone. And an operator may pause either.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::breaker::Breaker;
use super::notices::{Notice, Reporter};
use super::pause::Facts;
use crate::domain::ids::{AppId, TemplateId};
use crate::metrics::Metrics;

/// The breakers of all apps this process has met.
#[derive(Clone)]
pub struct Breakers {
    breakers: Arc<Mutex<HashMap<AppId, Arc<Breaker>>>>,
    /// Have operators' pauses been read yet?
    informed: Arc<watch::Sender<bool>>,
    reporter: Reporter,
}

/// What operators have paused of one app.
#[derive(Default)]
pub(super) struct ByHand {
    pub(super) app: Option<Arc<Facts>>,
    pub(super) templates: HashMap<TemplateId, Arc<Facts>>,
}

impl Breakers {
    /// All closed; but nothing should pass before [`Self::set_by_hand`].
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter { metrics, changed: Arc::new(Notify::new()) };
        Self { breakers: Arc::default(), informed: Arc::new(watch::Sender::new(false)), reporter }
    }

    /// The breaker of an app; closed where it was never met.
    pub fn of(&self, app_id: &AppId) -> Arc<Breaker> {
        let mut breakers = self.lock();
        if let Some(breaker) = breakers.get(app_id) {
            return Arc::clone(breaker);
        }
        let breaker = Arc::new(Breaker::new(app_id, &self.reporter));
        breakers.insert(app_id.clone(), Arc::clone(&breaker));
        breaker
    }

    /// Waits until it is known what operators have paused: a process that starts must not send over their heads.
    pub async fn informed(&self) {
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
        for breaker in self.all() {
            let ByHand { app, templates } = paused.remove(&breaker.app_id).unwrap_or_default();
            breaker.by_hand(app, &templates);
        }
        self.informed.send_replace(true);
    }

    /// What this process has paused by itself, by app.
    pub(super) fn notices(&self) -> Vec<(AppId, Notice)> {
        let of_one = |breaker: Arc<Breaker>| {
            let app_id = breaker.app_id.clone();
            breaker.notices().into_iter().map(move |notice| (app_id.clone(), notice))
        };
        self.all().into_iter().flat_map(of_one).collect()
    }

    /// Waits until something has changed since this was asked last.
    pub(super) async fn changed(&self) {
        self.reporter.changed.notified().await;
    }

    fn all(&self) -> Vec<Arc<Breaker>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppId, Arc<Breaker>>> {
        // Nothing panics under this lock.
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

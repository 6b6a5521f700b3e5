//! Finding an event's app: is there one, and may the event use it?

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{mpsc, watch};

use super::app_runtime::AppRuntime;
use crate::admission::Limits;
use crate::delays::Delays;
use crate::domain::event::Event;
use crate::domain::ids::AppId;
use crate::domain::ladder::Ladder;
use crate::domain::outcome::DeadReason;
use crate::health::Breakers;
use crate::token::{AppState, Lookup, TokenCache};

/// An event's app, or why the event has none.
pub(super) type ResolvedApp = Result<Arc<AppRuntime>, DeadReason>;

/// The apps that this process has met. Only registered ones are kept, so publishers cannot fill it.
pub(super) struct Apps {
    tokens: TokenCache,
    breakers: Breakers,
    limits: Limits,
    /// The configured one, which each app has.
    ladder: Arc<Ladder>,
    met: RwLock<HashMap<AppId, Arc<AppRuntime>>>,
    /// To the task that starts their lanes.
    newly_met: mpsc::UnboundedSender<Arc<AppRuntime>>,
}

impl Apps {
    /// None is met yet; each that is will be announced to `newly_met`.
    pub(super) fn new(
        tokens: TokenCache,
        breakers: Breakers,
        limits: Limits,
        ladder: Arc<Ladder>,
        newly_met: mpsc::UnboundedSender<Arc<AppRuntime>>,
    ) -> Self {
        Self { tokens, breakers, limits, ladder, met: RwLock::default(), newly_met }
    }

    /// The event's app, if there is one and the event may use it. Waits while the database that knows is away.
    pub(super) async fn resolve(&self, event: &Event) -> ResolvedApp {
        let app = match self.met(&event.app_id) {
            Some(app) => app,
            // Boxed, as it is rare: room for it would be copied with each event.
            None => Box::pin(self.look_up(&event.app_id)).await.ok_or(DeadReason::UnknownApp)?,
        };
        if app.may_be_used_by(&event.company_no) { Ok(app) } else { Err(DeadReason::WrongCompany) }
    }

    /// The ladder of an event's app; where there is none, the configured one.
    pub(super) fn ladder_of<'a>(&'a self, app: &'a ResolvedApp) -> &'a Ladder {
        app.as_ref().map_or(&self.ladder, |app| app.ladder())
    }

    /// An app that is in memory, without waiting. `None` says nothing: see [`Self::resolve`].
    pub(super) fn in_memory(&self, app_id: &AppId) -> Option<Arc<AppRuntime>> {
        self.met(app_id).or_else(|| Some(self.meet(self.tokens.watch(app_id)?)))
    }

    /// The ids of all apps in memory, met or not.
    pub(super) fn ids(&self) -> Vec<AppId> {
        self.tokens.apps()
    }

    /// All apps met so far, those whose row is gone included.
    pub(super) fn all_met(&self) -> Vec<Arc<AppRuntime>> {
        self.met.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn met(&self, app_id: &AppId) -> Option<Arc<AppRuntime>> {
        let met = self.met.read().unwrap_or_else(PoisonError::into_inner);
        met.get(app_id).filter(|app| !app.is_gone()).cloned()
    }

    async fn look_up(&self, app_id: &AppId) -> Option<Arc<AppRuntime>> {
        let mut delays = Delays::reconnect();
        loop {
            match self.tokens.app(app_id).await {
                Ok(Lookup::Known(state)) => return Some(self.meet(state)),
                Ok(Lookup::Unknown) => return None,
                Err(error) => {
                    tracing::debug!(%error, %app_id, "cannot look up an app; retrying");
                    tokio::time::sleep(delays.next().unwrap_or_default()).await;
                }
            }
        }
    }

    fn meet(&self, state: watch::Receiver<AppState>) -> Arc<AppRuntime> {
        let app_id = state.borrow().app.app_id.clone();
        let mut met = self.met.write().unwrap_or_else(PoisonError::into_inner);
        let before = met.get(&app_id);
        // Another task may have met it meanwhile.
        if let Some(app) = before.filter(|app| !app.is_gone()) {
            return Arc::clone(app);
        }
        // An app that was deleted and registered again goes on with the limits that it had.
        let limits = before.map_or_else(|| self.limits.for_app(&app_id), |gone| gone.limits.clone());
        let app =
            Arc::new(AppRuntime::new(state, self.breakers.of(&app_id), limits, Arc::clone(&self.ladder)));
        met.insert(app_id, Arc::clone(&app));
        // The other end lives as long as the process works.
        let _ = self.newly_met.send(Arc::clone(&app));
        app
    }
}

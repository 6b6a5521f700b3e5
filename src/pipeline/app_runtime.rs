//! All that this process knows of one app, in one place: looked up once a job, and carried with it.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::admission::{AppLimits, Rank};
use crate::db::registry::apps::App;
use crate::domain::answer::{PauseReason, TokenFault, classify_token};
use crate::domain::ids::{AppId, CompanyNo};
use crate::domain::ladder::Ladder;
use crate::health::{Breaker, Facts};
use crate::token::{AppState, FaultReason, TokenState};
use crate::wechat::AccessToken;

/// An app as the pipeline meets it.
pub(super) struct AppRuntime {
    pub(super) app_id: AppId,
    /// Its row and its token, as the refresher publishes them; closed when the row is deleted.
    state: watch::Receiver<AppState>,
    pub(super) breaker: Arc<Breaker>,
    pub(super) limits: AppLimits,
    ladder: Arc<Ladder>,
    /// Says that there is something in its lane.
    pub(super) lane_filled: Notify,
}

impl AppRuntime {
    /// Nothing is in its lane, as far as we know.
    pub(super) fn new(
        state: watch::Receiver<AppState>,
        breaker: Arc<Breaker>,
        limits: AppLimits,
        ladder: Arc<Ladder>,
    ) -> Self {
        let app_id = state.borrow().app.app_id.clone();
        Self { app_id, state, breaker, limits, ladder, lane_filled: Notify::new() }
    }

    /// The ladder that its deliveries climb.
    pub(super) fn ladder(&self) -> &Ladder {
        &self.ladder
    }

    /// The app's row as it is now.
    pub(super) fn settings(&self) -> Arc<App> {
        Arc::clone(&self.state.borrow().app)
    }

    /// Is the app's row gone? One that is registered again is another app.
    pub(super) fn is_gone(&self) -> bool {
        self.state.has_changed().is_err()
    }

    /// Does the app belong to this company, or to no company alone?
    pub(super) fn may_be_used_by(&self, company_no: &CompanyNo) -> bool {
        self.state.borrow().app.company_no.as_ref().is_none_or(|owner| owner == company_no)
    }

    /// Does a message from a queue of this rank belong in the app's lane instead?
    pub(super) fn belongs_in_lane(&self, rank: Rank) -> bool {
        rank == Rank::Fresh && (self.breaker.is_open() || self.limits.are_reached(&self.settings()))
    }

    /// The token as it is now, if there is one.
    pub(super) fn token(&self) -> Option<Arc<AccessToken>> {
        ready(&self.state.borrow())
    }

    /// Waits until there is a token. `false`: the app's row is gone.
    pub(super) async fn token_ready(&self) -> bool {
        self.state.clone().wait_for(|state| ready(state).is_some()).await.is_ok()
    }

    /// Waits until there is a token of another generation than the one that failed.
    pub(super) async fn token_after(&self, failed: i64) -> bool {
        let newer = |state: &AppState| ready(state).is_some_and(|token| token.generation() != failed);
        self.state.clone().wait_for(newer).await.is_ok()
    }

    /// Pauses the app while it has no token. Ends when the app's row is gone.
    pub(super) async fn follow_token(&self) {
        let mut follower = self.state.clone();
        loop {
            let AppState { app, token } = follower.borrow_and_update().clone();
            match token {
                // Nothing is sent for an app that is switched off, so nothing needs to wait: its deliveries are skipped.
                _ if !app.active => self.breaker.close(),
                TokenState::Ready(_) => self.breaker.token_back(),
                TokenState::Waiting => {}
                TokenState::Faulty { reason, errcode, errmsg, .. } => {
                    self.breaker
                        .token_lost(pause_reason(reason, errcode), Facts::said(Some(errcode), &errmsg));
                }
            }
            if follower.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Why an app without a token is paused, in the words that a refused send would use.
fn pause_reason(fault: FaultReason, errcode: i64) -> PauseReason {
    match (fault, classify_token(errcode)) {
        (FaultReason::TokenRejected, _) => PauseReason::TokenRejected,
        (FaultReason::Sealed, _) => PauseReason::SecretSealed,
        (FaultReason::TokenRefused, TokenFault::App(reason)) => reason,
        (FaultReason::TokenRefused, TokenFault::Quota) => PauseReason::Quota,
        (FaultReason::TokenRefused, TokenFault::Throttled) => PauseReason::Throttled,
        (FaultReason::TokenRefused, TokenFault::Transient) => PauseReason::NoToken,
    }
}

fn ready(state: &AppState) -> Option<Arc<AccessToken>> {
    match &state.token {
        TokenState::Ready(token) => Some(Arc::clone(token)),
        TokenState::Waiting | TokenState::Faulty { .. } => None,
    }
}

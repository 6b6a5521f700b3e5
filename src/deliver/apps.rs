//! The app a delivery goes through: is there one, may this event use it, and with which token.

use std::sync::Arc;

use tokio::sync::watch;

use super::Pipeline;
use super::breakers::Breaker;
use crate::db::registry::live_apps::App;
use crate::delays::Delays;
use crate::domain::answer::{PauseReason, SendAnswer, TokenFault, classify_token};
use crate::domain::event::Event;
use crate::domain::outcome::DeadReason;
use crate::token::{AppState, FaultReason, Lookup, TokenState};
use crate::wechat::AccessToken;

/// An app's page in the token cache, for as long as one delivery needs it.
#[derive(Debug, Clone)]
pub(super) struct AppWatch(watch::Receiver<AppState>);

impl AppWatch {
    /// Follows this page.
    pub(super) fn new(page: watch::Receiver<AppState>) -> Self {
        Self(page)
    }

    /// Tells the app's breaker when the token goes and comes. Ends when the app's row is gone.
    pub(super) async fn tell(&mut self, breaker: &Breaker) {
        loop {
            let state = self.0.borrow_and_update().clone();
            match &state.token {
                // Nothing is sent for an app that is switched off, so nothing needs to wait: its deliveries are skipped.
                _ if !state.app.active => breaker.open(),
                TokenState::Ready(_) => breaker.token_back(),
                TokenState::Waiting => {}
                TokenState::Faulty { reason, errcode, errmsg, .. } => {
                    let answer = SendAnswer::Read {
                        errcode: *errcode,
                        errmsg: errmsg.clone(),
                        rid: None,
                        msgid: None,
                    };
                    breaker.token_gone(pause_reason(*reason, *errcode), &answer);
                }
            }
            if self.0.changed().await.is_err() {
                return;
            }
        }
    }

    /// The app's row as it is now.
    pub(super) fn app(&self) -> Arc<App> {
        Arc::clone(&self.0.borrow().app)
    }

    /// The token as it is now, if there is one.
    pub(super) fn token(&self) -> Option<Arc<AccessToken>> {
        ready(&self.0.borrow())
    }

    /// Waits until there is a token. `false`: the app's row is gone.
    pub(super) async fn token_ready(&mut self) -> bool {
        self.0.wait_for(|state| ready(state).is_some()).await.is_ok()
    }

    /// Waits until there is a token of another generation than the one that failed.
    pub(super) async fn token_after(&mut self, failed: i64) -> bool {
        let newer = |state: &AppState| ready(state).is_some_and(|token| token.generation() != failed);
        self.0.wait_for(newer).await.is_ok()
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

impl Pipeline {
    /// The event's app, if there is one and the event may use it. Waits while the database that knows is away.
    pub(super) async fn app_of(&self, event: &Event) -> Result<AppWatch, DeadReason> {
        let page = self.page_of(event).await.ok_or(DeadReason::UnknownApp)?;
        let company_no = page.borrow().app.company_no.clone();
        match company_no {
            Some(owner) if owner != event.company_no => Err(DeadReason::WrongCompany),
            _ => Ok(AppWatch(page)),
        }
    }

    async fn page_of(&self, event: &Event) -> Option<watch::Receiver<AppState>> {
        let mut delays = Delays::reconnect();
        loop {
            match self.tokens.app(&event.app_id).await {
                Ok(Lookup::Known(page)) => return Some(page),
                Ok(Lookup::Unknown) => return None,
                Err(error) => {
                    tracing::debug!(%error, app_id = %event.app_id, "cannot look up an app; retrying");
                    tokio::time::sleep(delays.next().unwrap_or_default()).await;
                }
            }
        }
    }
}

//! What senders see of the apps and their tokens.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use crate::db::registry::apps::App;
use crate::domain::ids::AppId;
use crate::wechat::AccessToken;

/// Everything the refresher publishes of one app.
#[derive(Debug, Clone)]
pub struct AppState {
    pub app: Arc<App>,
    pub token: TokenState,
}

/// Can the app's messages be sent?
#[derive(Debug, Clone)]
pub enum TokenState {
    /// With this token.
    Ready(Arc<AccessToken>),
    /// Not yet: a token is on its way, or the app is switched off.
    Waiting,
    /// Not before an operator fixes it. The refresher keeps probing.
    Faulty {
        reason: FaultReason,
        /// WeChat's code and text; 0 and our own text where WeChat was not asked.
        errcode: i64,
        errmsg: String,
        since: Timestamp,
    },
}

/// Why an app gets no usable token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultReason {
    /// The token endpoint says no: a wrong secret, a blocked address, a quota.
    TokenRefused,
    /// The token endpoint hands out a token that WeChat then rejects, twice the same one.
    TokenRejected,
    /// What the row holds is sealed, and cannot be opened here.
    Sealed,
}

impl FaultReason {
    /// The word for logs, metrics and the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenRefused => "token_refused",
            Self::TokenRejected => "token_rejected",
            Self::Sealed => "sealed",
        }
    }
}

/// Is there such an app?
#[derive(Debug)]
pub enum Lookup {
    /// Follow its state here. Closed when the app's row is deleted: look it up again.
    Known(watch::Receiver<AppState>),
    /// Its row was looked for just now, and there is none.
    Unknown,
}

/// The app is not in memory, and the database cannot be asked: neither known nor unknown.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot look up the app: {0}")]
pub struct LookupError(pub(super) String);

/// The readers' side: what every app's state is now, and a way to talk to the refresher. Cheap to clone.
#[derive(Clone)]
pub struct TokenCache {
    states: AppStates,
    requests: mpsc::Sender<Request>,
}

/// Requests on their way to the refresher; one that has to wait only waits for the refresher's next breath.
const REQUEST_BACKLOG: usize = 1024;

/// Where a lookup's answer goes.
pub(super) type Answer = oneshot::Sender<Result<Lookup, LookupError>>;

/// What senders and operators ask of the refresher.
#[derive(Debug)]
pub(super) enum Request {
    LookUp { app_id: AppId, answer: Answer },
    Rejected { app_id: AppId, generation: i64 },
}

impl TokenCache {
    pub(super) fn new() -> (Self, AppStates, mpsc::Receiver<Request>) {
        let states = AppStates::default();
        let (requests, requested) = mpsc::channel(REQUEST_BACKLOG);
        (Self { states: states.clone(), requests }, states, requested)
    }

    /// The state of an app that is in memory, without waiting. `None` says nothing yet: see [`Self::app`].
    pub fn watch(&self, app_id: &AppId) -> Option<watch::Receiver<AppState>> {
        self.states.read(app_id)
    }

    /// All apps in memory, in no order.
    pub fn apps(&self) -> Vec<AppId> {
        self.states.ids()
    }

    /// The state of an app; one that is not in memory is looked up in the database before it is called unknown.
    pub async fn app(&self, app_id: &AppId) -> Result<Lookup, LookupError> {
        if let Some(state) = self.watch(app_id) {
            return Ok(Lookup::Known(state));
        }
        let stopped = || LookupError("the refresher has stopped".to_owned());
        let (answer, answered) = oneshot::channel();
        let request = Request::LookUp { app_id: app_id.clone(), answer };
        self.requests.send(request).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// WeChat rejected the token of this generation (40001, 40014, 42001 on a send). Says it once, however many say it:
    /// as soon as the refresher has heard, the state is no longer `Ready` with that generation, and later words are
    /// dropped here. Wait for the state to change.
    pub async fn report_rejected(&self, app_id: &AppId, generation: i64) {
        let in_use = self.watch(app_id).is_some_and(|state| state.borrow().generation() == Some(generation));
        if in_use {
            self.request(Request::Rejected { app_id: app_id.clone(), generation }).await;
        }
    }

    async fn request(&self, request: Request) {
        // A refresher that has stopped grants no requests, and its watchers have seen it go.
        let _ = self.requests.send(request).await;
    }
}

impl AppState {
    /// The generation of the token in use, where there is one.
    pub fn generation(&self) -> Option<i64> {
        match &self.token {
            TokenState::Ready(token) => Some(token.generation()),
            TokenState::Waiting | TokenState::Faulty { .. } => None,
        }
    }

    /// Would a sender act the same on both?
    pub(super) fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.app, &other.app) && self.token.same_as(&other.token)
    }
}

impl TokenState {
    fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Waiting, Self::Waiting) => true,
            (Self::Ready(one), Self::Ready(other)) => Arc::ptr_eq(one, other),
            (
                Self::Faulty { reason, errcode, since, .. },
                Self::Faulty { reason: other_reason, errcode: other_code, since: other_since, .. },
            ) => reason == other_reason && errcode == other_code && since == other_since,
            _ => false,
        }
    }
}

/// One state per app, shared by the cache's readers and its one writer.
#[derive(Clone, Default)]
pub(super) struct AppStates(Arc<RwLock<HashMap<AppId, watch::Receiver<AppState>>>>);

impl AppStates {
    /// Opens a state; its writer is the answer.
    pub(super) fn open(&self, state: AppState) -> watch::Sender<AppState> {
        let app_id = state.app.app_id.clone();
        let (writer, reader) = watch::channel(state);
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(app_id, reader);
        writer
    }

    pub(super) fn close(&self, app_id: &AppId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(app_id);
    }

    fn ids(&self) -> Vec<AppId> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    pub(super) fn read(&self, app_id: &AppId) -> Option<watch::Receiver<AppState>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(app_id).cloned()
    }
}

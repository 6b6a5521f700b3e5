//! One refresh for one token: lease, ask WeChat, store. Knows nothing of what came before.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use uuid::Uuid;

use crate::db::registry::apps::{self, App, AppRow};
use crate::db::registry::tokens;
use crate::db::{self, Database};
use crate::domain::app::TokenApi;
use crate::sealing::OpenError;
use crate::wechat::{Client, TokenFetchError};

/// What every refresh needs.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) db: Database,
    pub(super) client: Client,
    /// This process, on the leases it takes.
    pub(super) owner: Uuid,
    /// How long a lease lasts.
    pub(super) lease: Duration,
}

/// What to bring.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) app: Arc<App>,
    /// The version we know: the new token follows it.
    pub(super) version: i64,
    /// A good token that could not be stored so far: store it rather than fetch another.
    pub(super) unsaved: Option<Fresh>,
    /// A token that WeChat rejected twice: not to be handed out again.
    pub(super) barred: Option<SecretString>,
}

/// A token as it came from WeChat.
#[derive(Debug, Clone)]
pub(super) struct Fresh {
    pub(super) value: SecretString,
    pub(super) expires_at: Instant,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Refreshed {
    Stored {
        token: Fresh,
        version: i64,
    },
    /// The token is good, but the database is away (or lost us the lease's proof): kept in memory.
    Unsaved {
        token: Fresh,
    },
    /// Somebody else was there first.
    MovedOn(Box<AppRow>),
    /// Somebody else is on the way.
    Leased,
    /// WeChat gave the barred token again.
    RejectedAgain,
    /// WeChat says no.
    Refused {
        errcode: i64,
        errmsg: String,
    },
    /// There is nothing to ask WeChat with: the app's secret is sealed, and cannot be opened.
    Sealed(OpenError),
    /// WeChat is away, or busy.
    Away(TokenFetchError),
    /// Nothing could be done without the database.
    DatabaseAway(db::Error),
}

/// What a refresh came to, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshResult {
    /// WeChat gave a token with so long to live.
    Fetched { expires_in: Duration },
    /// Another process had stored one with so long to live.
    Adopted { expires_in: Duration },
    /// WeChat refused.
    Refused,
    /// WeChat gave again what it rejects.
    Rejected,
    /// The secret, or the token of another process, is sealed, and cannot be opened.
    Sealed,
    /// WeChat, or the database, could not be asked.
    Away,
    /// No refresh at all: the token in use is none any more, since WeChat rejects it or its row has none.
    Discarded,
}

impl RefreshResult {
    /// When the app's token ends, by what this result changed about it; `None`: as before.
    pub fn expires_at(self, now: jiff::Timestamp) -> Option<jiff::Timestamp> {
        match self {
            Self::Fetched { expires_in } | Self::Adopted { expires_in } => now.checked_add(expires_in).ok(),
            // There is none to use, whatever life WeChat had promised.
            Self::Rejected | Self::Discarded => Some(now),
            Self::Refused | Self::Sealed | Self::Away => None,
        }
    }

    /// The word for the `result` label of the metric of refreshes; `None` where there was none.
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Fetched { .. } => Some("fetched"),
            Self::Adopted { .. } => Some("adopted"),
            Self::Refused => Some("refused"),
            Self::Rejected => Some("rejected"),
            Self::Sealed => Some("sealed"),
            Self::Away => Some("away"),
            Self::Discarded => None,
        }
    }
}

/// Gets a newer token, from WeChat or from the process that has already fetched it.
pub(super) async fn refresh(means: &Means, order: &Order) -> Refreshed {
    if let Err(error) = &order.app.secret {
        return Refreshed::Sealed(error.clone());
    }
    match tokens::take_lease(&means.db, &order.app.app_id, order.version, means.owner, means.lease).await {
        Ok(true) => fetch_and_store(means, order).await,
        Ok(false) => read_again(means, order).await,
        Err(error) => without_database(means, order, error).await,
    }
}

async fn fetch_and_store(means: &Means, order: &Order) -> Refreshed {
    let app_id = &order.app.app_id;
    let token = match obtain(means, order).await {
        Ok(token) => token,
        Err(refreshed) => {
            // Where this fails the lease runs out by itself.
            let _ = tokens::release(&means.db, app_id, means.owner).await;
            return refreshed;
        }
    };
    let left = token.expires_at.saturating_duration_since(Instant::now());
    match tokens::store(&means.db, app_id, order.version, means.owner, &token.value, left).await {
        Ok(Some(version)) => Refreshed::Stored { token, version },
        Ok(None) => read_again(means, order).await,
        // A good token is not thrown away because a table could not be written.
        Err(_) => Refreshed::Unsaved { token },
    }
}

/// Independent use is safe for the stable API; a classic fetch would kill the token that all others use.
async fn without_database(means: &Means, order: &Order, error: db::Error) -> Refreshed {
    if order.app.token_api == TokenApi::Classic || order.unsaved.is_some() {
        return Refreshed::DatabaseAway(error);
    }
    match obtain(means, order).await {
        Ok(token) => Refreshed::Unsaved { token },
        Err(refreshed) => refreshed,
    }
}

async fn read_again(means: &Means, order: &Order) -> Refreshed {
    match apps::one(&means.db, &order.app.app_id).await {
        Ok(Some(row)) if row.token_version != order.version => Refreshed::MovedOn(Box::new(row)),
        // A deleted row is the poll's business.
        Ok(_) => Refreshed::Leased,
        Err(error) => Refreshed::DatabaseAway(error),
    }
}

async fn obtain(means: &Means, order: &Order) -> Result<Fresh, Refreshed> {
    if let Some(unsaved) = &order.unsaved {
        return Ok(unsaved.clone());
    }
    let asked_at = Instant::now();
    let app = &order.app;
    let secret = app.secret.as_ref().map_err(|error| Refreshed::Sealed(error.clone()))?;
    let fetched = means.client.fetch_token(app.token_api, &app.app_id, secret).await.map_err(of_fetch)?;
    if order.barred.as_ref().is_some_and(|barred| barred.expose_secret() == fetched.value.expose_secret()) {
        return Err(Refreshed::RejectedAgain);
    }
    Ok(Fresh { value: fetched.value, expires_at: asked_at + fetched.expires_in })
}

fn of_fetch(error: TokenFetchError) -> Refreshed {
    if error.passes_by_itself() {
        return Refreshed::Away(error);
    }
    match error {
        TokenFetchError::Refused { errcode, errmsg } => Refreshed::Refused { errcode, errmsg },
        error => Refreshed::Away(error),
    }
}

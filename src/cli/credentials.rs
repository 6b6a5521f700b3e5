//! Tests an app's credentials. The only way is to fetch a token with them.

use std::time::Duration;

use uuid::Uuid;

use crate::db::registry::apps::AppRow;
use crate::db::registry::tokens;
use crate::db::{self, Database};
use crate::domain::app::TokenApi;
use crate::domain::message_kind;
use crate::sealing::OpenError;
use crate::wechat::{Client, FetchedToken, TokenFetchError};

/// Longer than storing takes; short enough that a command killed in between delays the daemon's next token only by seconds.
const LEASE_MARGIN: Duration = Duration::from_secs(10);

/// Why there is no new token.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Database(#[from] db::Error),
    #[error(transparent)]
    Sealed(#[from] OpenError),
    /// WeChat refuses, or cannot be reached.
    #[error("{source}{}", advice(.source))]
    WeChat {
        #[from]
        source: TokenFetchError,
    },
    /// In classic mode two concurrent fetches would invalidate each other's token.
    #[error("another process is fetching a token for this app; try again in half a minute")]
    Busy,
}

fn advice(fault: &TokenFetchError) -> String {
    let TokenFetchError::Refused { errcode, .. } = fault else { return String::new() };
    message_kind::explain(*errcode)
        .map(|code| format!(" ({}: {})", code.meaning, code.advice))
        .unwrap_or_default()
}

/// Fetches a token with as little effect as the app's endpoint allows: the stable one repeats the current token; the classic one
/// invalidates the token in use, so the new one is stored for the daemon.
pub async fn attempt(db: &Database, client: &Client, row: &AppRow) -> Result<FetchedToken, Fault> {
    match row.app.token_api {
        TokenApi::Stable => {
            let secret = row.app.secret.as_ref().map_err(Clone::clone)?;
            Ok(client.fetch_token(TokenApi::Stable, &row.app.app_id, secret).await?)
        }
        TokenApi::Classic => renew(db, client, row).await,
    }
}

/// Fetches a token and stores it as the next generation; running daemons are notified.
pub async fn renew(db: &Database, client: &Client, row: &AppRow) -> Result<FetchedToken, Fault> {
    let (app, owner) = (&row.app, Uuid::new_v4());
    let secret = app.secret.as_ref().map_err(Clone::clone)?;
    let lease = client.request_timeout() + LEASE_MARGIN;
    if !tokens::take_lease(db, &app.app_id, row.token_version, owner, lease).await? {
        return Err(Fault::Busy);
    }
    match client.fetch_token(app.token_api, &app.app_id, secret).await {
        Ok(token) => {
            let stored =
                tokens::store(db, &app.app_id, row.token_version, owner, &token.value, token.expires_in)
                    .await?;
            stored.map(|_version| token).ok_or(Fault::Busy)
        }
        Err(fault) => {
            // If this fails the lease expires anyway; WeChat's error is the one to report.
            let _ = tokens::release(db, &app.app_id, owner).await;
            Err(fault.into())
        }
    }
}

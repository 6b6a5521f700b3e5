//! How processes share one token per app: a lease on the row, and compare-and-set by version.
//!
//! The version counts the tokens of an app. A process that knows version *n* may take the lease *on n*, fetch, and store
//! *n + 1*; a process that was too slow finds a newer version and reads the token that the other one stored. All times are the
//! database's; WeChat is asked outside of any transaction.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::secrets::SecretColumn;
use crate::db::query::sql;
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::ids::AppId;

/// The channel for notifications of new tokens and changed apps. Notifications reach every schema of a database, so each
/// names its own: `<schema>:<app_id>:<version>`. Never the token: any role may listen. Pauses by hand are notified here too,
/// with a word for the version.
pub const CHANNEL: &str = "wechat_token";

/// Takes the right to fetch the token that follows `version`. False when there is a newer version, or another
/// process holds the lease. A process may take its own lease again: the first answer may have been lost.
///
/// `lease` must outlast a request to WeChat and storing its answer; a process that dies with the lease delays the next
/// token by as much.
pub async fn take_lease(
    db: &Database,
    app_id: &AppId,
    version: i64,
    owner: Uuid,
    lease: Duration,
) -> Result<bool, Error> {
    const SQL: &str = "-- tokens::take_lease
UPDATE t_wechat_app
   SET token_lease_owner = :owner, token_lease_until = now() + :lease_s * interval '1 second'
 WHERE app_id = :app_id AND token_version = :version
   AND (token_lease_until IS NULL OR token_lease_until < now() OR token_lease_owner = :owner)";
    let taken = sql!(SQL, app_id = app_id.as_str(), version, owner, lease_s = lease.as_secs_f64())
        .count(&db.durable().await?)
        .await?;
    Ok(taken == 1)
}

/// Stores the token that follows `version`, sealed where there is a key, releases the lease and notifies the other processes.
/// Returns the new version, or `None` when the lease was lost: then another process has stored a token, or soon will.
pub async fn store(
    db: &Database,
    app_id: &AppId,
    version: i64,
    owner: Uuid,
    token: &SecretString,
    expires_in: Duration,
) -> Result<Option<i64>, Error> {
    const SQL: &str = "-- tokens::store
WITH stored AS (
    UPDATE t_wechat_app
       SET access_token = :token, token_exp_time = now() + :expires_in_s * interval '1 second',
           token_version = token_version + 1, token_lease_owner = NULL, token_lease_until = NULL
     WHERE app_id = :app_id AND token_version = :version AND token_lease_owner = :owner
    RETURNING app_id, token_version)
SELECT token_version, pg_notify(:channel, concat_ws(':', current_schema(), app_id, token_version)) FROM stored";
    let stored = SecretColumn::AccessToken.write(db.sealer(), app_id, token);
    let row = sql!(
        SQL,
        app_id = app_id.as_str(),
        version,
        owner,
        token = stored.expose_secret(),
        expires_in_s = expires_in.as_secs_f64(),
        channel = CHANNEL,
    )
    .optional(&db.durable().await?)
    .await?;
    row.map(|row| row.read("token_version")).transpose()
}

/// Releases the lease after a failed fetch, so that the next one need not wait for its end.
pub async fn release(db: &Database, app_id: &AppId, owner: Uuid) -> Result<(), Error> {
    const SQL: &str = "-- tokens::release
UPDATE t_wechat_app SET token_lease_owner = NULL, token_lease_until = NULL
 WHERE app_id = :app_id AND token_lease_owner = :owner";
    sql!(SQL, app_id = app_id.as_str(), owner).count(&db.durable().await?).await.map(drop)
}

/// Notifies every process that an operator changed the app's row: they read it at once, and end their backoff for it.
pub async fn announce(db: &Database, app_id: &AppId) -> Result<(), Error> {
    const SQL: &str = "-- tokens::announce
SELECT pg_notify(:channel, concat_ws(':', current_schema(), :app_id::text, ''))";
    sql!(SQL, channel = CHANNEL, app_id = app_id.as_str()).count(&db.durable().await?).await.map(drop)
}

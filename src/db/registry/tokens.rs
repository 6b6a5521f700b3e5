//! How processes share one token per app: a lease on the row, and compare-and-set by version.
//!
//! The version counts the tokens of an app. Who knows version *n* may take the lease *on n*, fetch, and store *n + 1*; a
//! process that was too slow finds the version moved on and reads what the other one stored. All times are the
//! database's; WeChat is asked outside of any transaction.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::secrets::SecretColumn;
use crate::db::query::sql;
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::ids::AppId;

/// Where changes of tokens and apps are announced. Notifications reach every schema of a database, so each says which
/// one it means: `<schema>:<app_id>:<version>`. Never the token: any role may listen. Pauses by hand are announced here too, with
/// a word for the version.
pub const CHANNEL: &str = "wechat_token";

/// Takes the right to fetch the token that follows `version`. False when the version has moved on, or somebody else
/// holds the lease. The own lease can be taken again: its first answer may have been lost.
///
/// `lease` must outlast a request to WeChat and the storing after it; a process that dies holding it delays the next
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

/// Stores the token that follows `version`, sealed where there is a key, gives the lease back and tells the others. The new version, or `None` when
/// the lease was lost: then somebody else's token stands there, or soon will.
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

/// Gives the lease back after a fetch that brought nothing, so that the next one need not wait for its end.
pub async fn release(db: &Database, app_id: &AppId, owner: Uuid) -> Result<(), Error> {
    const SQL: &str = "-- tokens::release
UPDATE t_wechat_app SET token_lease_owner = NULL, token_lease_until = NULL
 WHERE app_id = :app_id AND token_lease_owner = :owner";
    sql!(SQL, app_id = app_id.as_str(), owner).count(&db.durable().await?).await.map(drop)
}

/// Tells every process that the app's row was changed by hand: they read it at once, and try again where they had
/// given up on it for a while.
pub async fn announce(db: &Database, app_id: &AppId) -> Result<(), Error> {
    const SQL: &str = "-- tokens::announce
SELECT pg_notify(:channel, concat_ws(':', current_schema(), :app_id::text, ''))";
    sql!(SQL, channel = CHANNEL, app_id = app_id.as_str()).count(&db.durable().await?).await.map(drop)
}

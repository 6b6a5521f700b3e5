//! Sealing what was stored before there was a master key.

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Row;

use super::WRITTEN_BY;
use crate::db::query::sql;
use crate::db::registry::secrets::SecretColumn;
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::ids::AppId;
use crate::sealing::SEALED;

/// A row whose secrets are not all sealed.
struct PlainRow {
    app_id: AppId,
    /// `app_secret`, `access_token`, `encoding_aes_key`; `None` where there is nothing to seal.
    secrets: [Option<SecretString>; 3],
}

impl PlainRow {
    fn count(&self) -> u64 {
        self.secrets.iter().flatten().count() as u64
    }
}

/// How many secrets are stored in plaintext, over all apps.
pub async fn count_plain(db: &Database) -> Result<u64, Error> {
    Ok(plain_rows(db, None).await?.iter().map(PlainRow::count).sum())
}

/// Seals what is stored in plaintext for one app or, for `None`, for all; returns how many secrets that were. Needs a key, or
/// it writes back what was there. A secret that changes meanwhile is left alone: its writer seals it, or the next call does.
pub async fn seal(db: &Database, app_id: Option<&AppId>) -> Result<u64, Error> {
    let mut sealed = 0;
    for row in plain_rows(db, app_id).await? {
        if seal_row(db, &row).await? {
            sealed += row.count();
        }
    }
    Ok(sealed)
}

async fn plain_rows(db: &Database, app_id: Option<&AppId>) -> Result<Vec<PlainRow>, Error> {
    const SQL: &str = "-- registry::plain_secrets
        SELECT app_id,
               CASE WHEN app_secret <> '' AND NOT starts_with(app_secret, :sealed)
                    THEN app_secret END AS app_secret,
               CASE WHEN access_token <> '' AND NOT starts_with(access_token, :sealed)
                    THEN access_token END AS access_token,
               CASE WHEN encoding_aes_key <> '' AND NOT starts_with(encoding_aes_key, :sealed)
                    THEN encoding_aes_key END AS encoding_aes_key
          FROM t_wechat_app
         WHERE :only::text IS NULL OR app_id = :only::text
         ORDER BY app_id";
    let only = app_id.map(AppId::as_str);
    let rows = sql!(SQL, only, sealed = SEALED).rows(&db.durable().await?).await?;
    let rows = rows.iter().map(plain_row).collect::<Result<Vec<_>, _>>()?;
    Ok(rows.into_iter().flatten().filter(|row| row.count() > 0).collect())
}

/// `None` for a row with an invalid app_id: no daemon uses it.
fn plain_row(row: &Row) -> Result<Option<PlainRow>, Error> {
    let Some(app_id) = row.read::<Option<&str>>("app_id")?.and_then(|id| AppId::parse(id).ok()) else {
        return Ok(None);
    };
    let secret = |column| Ok::<_, Error>(row.read::<Option<String>>(column)?.map(SecretString::from));
    let secrets = [secret("app_secret")?, secret("access_token")?, secret("encoding_aes_key")?];
    Ok(Some(PlainRow { app_id, secrets }))
}

/// One row, whole or not at all. False where a secret is no longer the one that was read.
async fn seal_row(db: &Database, row: &PlainRow) -> Result<bool, Error> {
    const SQL: &str = "-- registry::seal_app
        UPDATE t_wechat_app
           SET app_secret       = coalesce(:sealed_app_secret::text, app_secret),
               access_token     = coalesce(:sealed_access_token::text, access_token),
               encoding_aes_key = coalesce(:sealed_encoding_aes_key::text, encoding_aes_key),
               update_by = :written_by, update_time = now()
         WHERE app_id = :app_id
           AND (:app_secret::text IS NULL OR app_secret = :app_secret::text)
           AND (:access_token::text IS NULL OR access_token = :access_token::text)
           AND (:encoding_aes_key::text IS NULL OR encoding_aes_key = :encoding_aes_key::text)";
    let sealed = |column: SecretColumn, plain: &Option<SecretString>| {
        plain.as_ref().map(|plain| column.write(db.sealer(), &row.app_id, plain))
    };
    let [app_secret, access_token, encoding_aes_key] = &row.secrets;
    let changed = sql!(
        SQL,
        app_id = row.app_id.as_str(),
        app_secret = text(app_secret),
        access_token = text(access_token),
        encoding_aes_key = text(encoding_aes_key),
        sealed_app_secret = text(&sealed(SecretColumn::AppSecret, app_secret)),
        sealed_access_token = text(&sealed(SecretColumn::AccessToken, access_token)),
        sealed_encoding_aes_key = text(&sealed(SecretColumn::EncodingAesKey, encoding_aes_key)),
        written_by = WRITTEN_BY,
    )
    .count(&db.durable().await?)
    .await?;
    Ok(changed == 1)
}

fn text(secret: &Option<SecretString>) -> Option<&str> {
    secret.as_ref().map(ExposeSecret::expose_secret)
}

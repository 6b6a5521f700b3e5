//! Sealing what was stored before there was a master key.

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Row;

use super::WRITTEN_BY;
use crate::db::registry::secrets::SecretColumn;
use crate::db::row::Read;
use crate::db::{Database, Error, query};
use crate::domain::ids::AppId;
use crate::sealing::SEALED;

/// A row whose secrets are not all sealed.
struct PlainRow {
    app_id: AppId,
    /// In the order of [`SecretColumn::ALL`]; `None` where there is nothing to seal.
    secrets: [Option<SecretString>; 3],
}

impl PlainRow {
    fn count(&self) -> u64 {
        self.secrets.iter().flatten().count() as u64
    }
}

/// How many secrets stand plain, over all apps.
pub async fn count_plain(db: &Database) -> Result<u64, Error> {
    Ok(plain_rows(db, None).await?.iter().map(PlainRow::count).sum())
}

/// Seals what stands plain in the rows of one app or, for `None`, of all; answers how many secrets that were. Needs a key,
/// or it writes back what was there. What changes meanwhile is left as it is: whoever changed it seals it, or the next
/// call does.
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
               CASE WHEN app_secret       <> '' AND NOT starts_with(app_secret, $2)       THEN app_secret       END,
               CASE WHEN access_token     <> '' AND NOT starts_with(access_token, $2)     THEN access_token     END,
               CASE WHEN encoding_aes_key <> '' AND NOT starts_with(encoding_aes_key, $2) THEN encoding_aes_key END
          FROM t_wechat_app
         WHERE $1::text IS NULL OR app_id = $1::text
         ORDER BY app_id";
    let only = app_id.map(AppId::as_str);
    let rows = query::rows(&db.durable().await?, SQL, &[&only, &SEALED]).await?;
    let rows = rows.iter().map(plain_row).collect::<Result<Vec<_>, _>>()?;
    Ok(rows.into_iter().flatten().filter(|row| row.count() > 0).collect())
}

/// Nothing for a row whose app_id cannot be one: no daemon uses it.
fn plain_row(row: &Row) -> Result<Option<PlainRow>, Error> {
    let Some(app_id) = row.read::<Option<&str>>("app_id")?.and_then(|id| AppId::parse(id).ok()) else {
        return Ok(None);
    };
    // The columns follow the app_id in this order.
    let secret = |at: usize| Ok::<_, Error>(row.read::<Option<String>>(at)?.map(SecretString::from));
    Ok(Some(PlainRow { app_id, secrets: [secret(1)?, secret(2)?, secret(3)?] }))
}

/// One row, whole or not at all. False where a secret is no longer the one that was read.
async fn seal_row(db: &Database, row: &PlainRow) -> Result<bool, Error> {
    const SQL: &str = "-- registry::seal_app
        UPDATE t_wechat_app
           SET app_secret       = coalesce($5::text, app_secret),
               access_token     = coalesce($6::text, access_token),
               encoding_aes_key = coalesce($7::text, encoding_aes_key),
               update_by = $8, update_time = now()
         WHERE app_id = $1
           AND ($2::text IS NULL OR app_secret = $2::text)
           AND ($3::text IS NULL OR access_token = $3::text)
           AND ($4::text IS NULL OR encoding_aes_key = $4::text)";
    let columns = SecretColumn::ALL.iter().zip(&row.secrets);
    let sealed: Vec<_> = columns
        .map(|(column, plain)| plain.as_ref().map(|plain| column.write(db.sealer(), &row.app_id, plain)))
        .collect();
    let (before, after) = (texts(&row.secrets), texts(&sealed));
    let changed = query::count(
        &db.durable().await?,
        SQL,
        &[
            &row.app_id.as_str(),
            &before[0],
            &before[1],
            &before[2],
            &after[0],
            &after[1],
            &after[2],
            &WRITTEN_BY,
        ],
    )
    .await?;
    Ok(changed == 1)
}

fn texts(secrets: &[Option<SecretString>]) -> Vec<Option<&str>> {
    secrets.iter().map(|secret| secret.as_ref().map(ExposeSecret::expose_secret)).collect()
}

//! The probe of PostgreSQL that readiness and `check` run, whether there is traffic or not.

use std::time::Duration;

use uuid::Uuid;

use super::query::{self, sql};
use super::row::Read;
use super::sqlstate::Remedy;
use super::{Database, Error, dead_letters};
use crate::db::ledger::claim::{self, Lease};
use crate::db::ledger::{plan, record, settle};
use crate::db::registry::{apps, pauses};
use crate::domain::ids::AppId;

/// An app that no row has.
const NO_APP: &str = "probe";

/// Runs the daemon's own statements with empty batches, so that every table, column and right that they need is checked; then
/// writes a row to the ledger and rolls it back, which a full disk or a standby refuses.
pub async fn probe(db: &Database) -> Result<(), Error> {
    if let Ok(no_app) = AppId::parse(NO_APP) {
        apps::one(db, &no_app).await?;
    }
    pauses::orders(db, NO_APP).await?;
    dead_letters::archive(db, &[]).await?;
    rights(db).await?;
    plan::look_up(db, &[]).await?;
    record::record(db, &[]).await?;
    claim::claim(db, Lease { lasts: Duration::ZERO, grace: Duration::ZERO }, &[]).await?;
    settle::settle(db, &[]).await?;
    write_and_take_back(db).await
}

/// Tables that are written only for an operator or for an app's quota: a lost right must show before that.
const WRITTEN_AT_TIMES: [&str; 2] = ["t_wechat_quota", "t_wechat_pause"];

async fn rights(db: &Database) -> Result<(), Error> {
    const RIGHTS: &str = "-- probe: rights
        SELECT t || ' (' || p || ')' AS missing
          FROM unnest(:tables::text[]) t, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) p
         WHERE NOT has_table_privilege(t, p)
         LIMIT 1";
    match sql!(RIGHTS, tables = &WRITTEN_AT_TIMES[..]).optional(&db.durable().await?).await? {
        None => Ok(()),
        Some(row) => Err(Error::Installation {
            query: "probe: rights",
            code: "42501".to_owned(),
            message: format!("permission denied for table {}", row.read::<&str>("missing")?),
            remedy: Remedy::Grant,
        }),
    }
}

async fn write_and_take_back(db: &Database) -> Result<(), Error> {
    const WRITE: &str = "-- probe: a row that is taken back
        INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, status, content_hash)
        VALUES ('', '', '', :event_id, '', 'planned', '')";
    const BEGIN: &str = "-- probe: begin";
    const ROLLBACK: &str = "-- probe: take back";
    let mut client = db.durable().await?;
    let transaction = client.transaction().await.map_err(|error| query::failed(BEGIN, &error))?;
    // A key of its own: two processes that write the same one would wait for each other.
    sql!(WRITE, event_id = Uuid::new_v4().to_string()).count(&transaction).await?;
    transaction.rollback().await.map_err(|error| query::failed(ROLLBACK, &error))
}

//! Migrations: brings the tables to what this version expects, once, also when several processes start together.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio_postgres::Transaction;

use super::{Database, Error};

/// One step of the schema. Never edited once released: its checksum is recorded where it was applied.
struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

/// Every migration, oldest first.
const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "tables", sql: include_str!("../../migrations/0001_tables.sql") },
    Migration { version: 2, name: "pauses", sql: include_str!("../../migrations/0002_pauses.sql") },
    Migration { version: 3, name: "rates", sql: include_str!("../../migrations/0003_rates.sql") },
    Migration { version: 4, name: "letters", sql: include_str!("../../migrations/0004_letters.sql") },
    Migration { version: 5, name: "replay", sql: include_str!("../../migrations/0005_replay.sql") },
    Migration { version: 6, name: "lookups", sql: include_str!("../../migrations/0006_lookups.sql") },
];

/// Key of the advisory lock that lets one process migrate at a time ("wechatno" in ASCII). It holds for the whole
/// database, so installations in two schemas wait for each other, for milliseconds.
const LOCK_KEY: i64 = 0x7765_6368_6174_6e6f;

/// No statement timeout: an index on a table of millions takes minutes. But nobody waits longer than this for a lock:
/// a migration queued behind a forgotten transaction would in turn stop every reader.
const SESSION: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '60s'; \
                       SET LOCAL client_min_messages = warning";

/// Why the database was not migrated. Nothing was changed by the migration that failed.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error(transparent)]
    Database(#[from] Error),
    /// What was applied is not what this version would apply.
    #[error(
        "migration {version} ({name}) was applied with checksum {recorded}, but this release has {ours}. An applied \
         migration must not be edited: install the release that applied it, or restore its file and put the change into \
         a new migration"
    )]
    Changed { version: i32, name: String, recorded: String, ours: String },
    /// A newer release was here.
    #[error(
        "the database has migration {version} ({name}), which release {} does not know: a newer release migrated it. \
         Install that release or a later one; nothing was changed",
        env!("CARGO_PKG_VERSION")
    )]
    Unknown { version: i32, name: String },
}

impl MigrateError {
    /// Is it worth trying again?
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_away())
    }
}

/// A migration and whether it was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub version: i32,
    pub name: &'static str,
    /// By the database's clock; `None` while it is still to be applied.
    pub applied_at: Option<Timestamp>,
}

/// Applies what is missing, each migration in a transaction of its own. Returns what it applied, oldest first.
pub async fn apply(db: &Database) -> Result<Vec<State>, MigrateError> {
    let mut client = db.durable().await?;
    let mut applied = Vec::new();
    for migration in MIGRATIONS {
        let transaction =
            client.transaction().await.map_err(|error| Error::of_query("migrate::begin", &error))?;
        if let Some(at) = apply_one(&transaction, migration).await? {
            applied.push(State { version: migration.version, name: migration.name, applied_at: Some(at) });
        }
        transaction.commit().await.map_err(|error| Error::of_query("migrate::commit", &error))?;
    }
    Ok(applied)
}

/// What was applied and what was not; changes nothing. A changed or unknown migration is the same error as in [`apply`].
pub async fn status(db: &Database) -> Result<Vec<State>, MigrateError> {
    let mut client = db.durable().await?;
    let transaction =
        client.transaction().await.map_err(|error| Error::of_query("migrate::begin", &error))?;
    let recorded = if is_recorded(&transaction).await? { recorded(&transaction).await? } else { Vec::new() };
    verify(&recorded)?;
    Ok(MIGRATIONS
        .iter()
        .map(|migration| State {
            version: migration.version,
            name: migration.name,
            applied_at: find(&recorded, migration.version).map(|record| record.applied_at),
        })
        .collect())
}

/// The first migration that is still to be applied, if any: what a readiness probe wants to know.
pub async fn missing(db: &Database) -> Result<Option<State>, MigrateError> {
    Ok(status(db).await?.into_iter().find(|state| state.applied_at.is_none()))
}

/// When it was applied, or `None` where another process, or an earlier start, had done so.
async fn apply_one(
    transaction: &Transaction<'_>,
    migration: &Migration,
) -> Result<Option<Timestamp>, MigrateError> {
    execute(transaction, "migrate::session", SESSION).await?;
    lock(transaction).await?;
    execute(transaction, "migrate::record_table", RECORD_TABLE).await?;
    let recorded = recorded(transaction).await?;
    verify(&recorded)?;
    if find(&recorded, migration.version).is_some() {
        return Ok(None);
    }
    execute(transaction, migration.name, migration.sql).await?;
    Ok(Some(record(transaction, migration).await?))
}

const RECORD_TABLE: &str = "
    CREATE TABLE IF NOT EXISTS t_wechat_migration (
        version    integer PRIMARY KEY,
        name       text NOT NULL,
        checksum   text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )";

/// A row of `t_wechat_migration`.
struct Record {
    version: i32,
    name: String,
    checksum: String,
    applied_at: Timestamp,
}

/// Refuses to go on over a history that is not ours.
fn verify(recorded: &[Record]) -> Result<(), MigrateError> {
    for record in recorded {
        let Some(ours) = MIGRATIONS.iter().find(|migration| migration.version == record.version) else {
            return Err(MigrateError::Unknown { version: record.version, name: record.name.clone() });
        };
        if checksum(ours.sql) != record.checksum {
            return Err(MigrateError::Changed {
                version: record.version,
                name: record.name.clone(),
                recorded: record.checksum.clone(),
                ours: checksum(ours.sql),
            });
        }
    }
    Ok(())
}

fn find(recorded: &[Record], version: i32) -> Option<&Record> {
    recorded.iter().find(|record| record.version == version)
}

/// SHA-256 of the text, in hex.
fn checksum(sql: &str) -> String {
    Sha256::digest(sql).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until no other process migrates; the transaction's end lets the next one in.
async fn lock(transaction: &Transaction<'_>) -> Result<(), Error> {
    const SQL: &str = "-- migrate::lock
        SELECT pg_advisory_xact_lock($1)";
    transaction.execute(SQL, &[&LOCK_KEY]).await.map_err(|error| Error::of_query("migrate::lock", &error))?;
    Ok(())
}

async fn is_recorded(transaction: &Transaction<'_>) -> Result<bool, Error> {
    const SQL: &str = "-- migrate::is_recorded
        SELECT to_regclass('t_wechat_migration') IS NOT NULL";
    let row = transaction.query_one(SQL, &[]).await;
    Ok(row.map_err(|error| Error::of_query("migrate::is_recorded", &error))?.get(0))
}

async fn recorded(transaction: &Transaction<'_>) -> Result<Vec<Record>, Error> {
    const SQL: &str = "-- migrate::recorded
        SELECT version, name, checksum, applied_at FROM t_wechat_migration ORDER BY version";
    let rows = transaction.query(SQL, &[]).await;
    let rows = rows.map_err(|error| Error::of_query("migrate::recorded", &error))?;
    Ok(rows
        .iter()
        .map(|row| Record {
            version: row.get("version"),
            name: row.get("name"),
            checksum: row.get("checksum"),
            applied_at: row.get("applied_at"),
        })
        .collect())
}

async fn record(transaction: &Transaction<'_>, migration: &Migration) -> Result<Timestamp, Error> {
    const SQL: &str = "-- migrate::record
        INSERT INTO t_wechat_migration (version, name, checksum) VALUES ($1, $2, $3) RETURNING applied_at";
    let row = transaction
        .query_one(SQL, &[&migration.version, &migration.name, &checksum(migration.sql)])
        .await
        .map_err(|error| Error::of_query("migrate::record", &error))?;
    Ok(row.get("applied_at"))
}

/// Runs text SQL without values.
async fn execute(transaction: &Transaction<'_>, name: &'static str, sql: &str) -> Result<(), Error> {
    transaction.batch_execute(sql).await.map_err(|error| Error::of_query(name, &error))
}

//! Migrations: brings the tables to what this version expects, once, also when several processes start together.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio_postgres::Row;

use super::query::{self, sql};
use super::row::Read;
use super::shape::{self, Difference};
use super::{Database, Error};

/// One step of the schema. Never edited once released: its checksum is recorded where it was applied.
struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
    /// Releases that know the migration of this number can work beside ours. An additive one says 1; one that drops or changes
    /// what older releases use names the first whose release no longer uses it.
    compatible_with: i32,
}

/// A migration that only adds: every release can work beside it.
const fn additive(version: i32, name: &'static str, sql: &'static str) -> Migration {
    Migration { version, name, sql, compatible_with: 1 }
}

/// Every migration, oldest first.
const MIGRATIONS: &[Migration] = &[
    additive(1, "tables", include_str!("../../migrations/0001_tables.sql")),
    additive(2, "pauses", include_str!("../../migrations/0002_pauses.sql")),
    additive(3, "rates", include_str!("../../migrations/0003_rates.sql")),
    additive(4, "letters", include_str!("../../migrations/0004_letters.sql")),
    additive(5, "replay", include_str!("../../migrations/0005_replay.sql")),
    additive(6, "lookups", include_str!("../../migrations/0006_lookups.sql")),
    Migration {
        version: 7,
        name: "words",
        sql: include_str!("../../migrations/0007_words.sql"),
        // Older releases use the old names.
        compatible_with: 7,
    },
];

/// Key of the advisory lock that lets one process migrate at a time ("wechatno" in ASCII). It holds for the whole
/// database, so installations in two schemas wait for each other, for milliseconds.
const LOCK_KEY: i64 = 0x7765_6368_6174_6e6f;

/// No statement timeout: an index on a table of millions takes minutes. But it waits no longer than this for a lock: a
/// migration that queues behind a forgotten transaction would in turn block every reader.
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
    /// A newer release has migrated the database, and this one cannot work beside it.
    #[error(
        "the database has migration {version} ({name}), which release {} does not know and which does not allow this \
         release to work beside it. Install the release that applied it, or a later one; nothing was changed",
        env!("CARGO_PKG_VERSION")
    )]
    Unknown { version: i32, name: String },
    /// Somebody else made the tables, or changed them.
    #[error(
        "{} in the shape of the tables, beginning with {}; `wechat-notifier migrate` lists them all, with the SQL that \
         converts the tables. Nothing was changed",
        counted(.0),
        first(.0)
    )]
    Shape(Vec<Difference>),
}

fn counted(differences: &[Difference]) -> String {
    match differences.len() {
        1 => "1 difference".to_owned(),
        many => format!("{many} differences"),
    }
}

fn first(differences: &[Difference]) -> String {
    differences.first().map(ToString::to_string).unwrap_or_default()
}

impl MigrateError {
    /// Is a retry useful?
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Database(error) if !error.ends_the_start())
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

/// Applies what is missing, each migration in a transaction of its own. Returns what it applied, oldest first. Tables of
/// another shape are refused before anything is changed. Where nothing is missing, nothing is written: a role that may
/// change no table is enough.
pub async fn apply(db: &Database) -> Result<Vec<State>, MigrateError> {
    let mut applied = Vec::new();
    if examine(db).await? {
        return Ok(applied);
    }
    let mut client = db.durable().await?;
    for migration in MIGRATIONS {
        let transaction = client.transaction().await.map_err(|error| query::failed(BEGIN, &error))?;
        if let Some(at) = apply_one(&transaction, migration).await? {
            applied.push(State { version: migration.version, name: migration.name, applied_at: Some(at) });
        }
        transaction.commit().await.map_err(|error| query::failed(COMMIT, &error))?;
    }
    drop(client);
    examine(db).await?;
    Ok(applied)
}

/// Refuses a history and tables that this release cannot work with; changes nothing. True where no migration is missing.
pub async fn examine(db: &Database) -> Result<bool, MigrateError> {
    let mut client = db.durable().await?;
    let transaction = client.transaction().await.map_err(|error| query::failed(BEGIN, &error))?;
    execute(&transaction, "migrate::session", SESSION).await?;
    let mut recorded = history(&transaction).await?;
    if !is_complete(&recorded) {
        // Another process may be in the middle of migrating.
        lock(&transaction).await?;
        recorded = history(&transaction).await?;
    }
    let newest = MIGRATIONS.iter().rfind(|migration| find(&recorded, migration.version).is_some());
    let differences = shape::differences(&transaction, newest.map_or(0, |newest| newest.version)).await?;
    if !differences.is_empty() {
        return Err(MigrateError::Shape(differences));
    }
    Ok(is_complete(&recorded))
}

/// Is every migration of this release recorded?
fn is_complete(recorded: &[Record]) -> bool {
    MIGRATIONS.iter().all(|migration| find(recorded, migration.version).is_some())
}

const BEGIN: &str = "-- migrate::begin";
const COMMIT: &str = "-- migrate::commit";

/// What was applied and what was not; changes nothing. A changed or unknown migration is the same error as in [`apply`].
pub async fn status(db: &Database) -> Result<Vec<State>, MigrateError> {
    let mut client = db.durable().await?;
    let transaction = client.transaction().await.map_err(|error| query::failed(BEGIN, &error))?;
    let recorded = history(&transaction).await?;
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

/// When it was applied, or `None` where another process, or an earlier start, has applied it.
async fn apply_one(
    transaction: &Transaction<'_>,
    migration: &Migration,
) -> Result<Option<Timestamp>, MigrateError> {
    execute(transaction, "migrate::session", SESSION).await?;
    lock(transaction).await?;
    execute(transaction, "migrate::record_table", RECORD_TABLE).await?;
    let recorded = history(transaction).await?;
    if find(&recorded, migration.version).is_some() {
        return Ok(None);
    }
    execute(transaction, migration.name, migration.sql).await?;
    Ok(Some(record(transaction, migration).await?))
}

/// Databases of the first releases have the table without its last column.
const RECORD_TABLE: &str = "
    CREATE TABLE IF NOT EXISTS t_wechat_migration (
        version    integer PRIMARY KEY,
        name       text NOT NULL,
        checksum   text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    );
    ALTER TABLE t_wechat_migration ADD COLUMN IF NOT EXISTS compatible_with integer";

/// A row of `t_wechat_migration`.
struct Record {
    version: i32,
    name: String,
    checksum: String,
    applied_at: Timestamp,
    /// See [`Migration::compatible_with`]; `None`: its release did not say.
    compatible_with: Option<i32>,
}

/// What was applied, where it is a history that this release can work with.
async fn history(transaction: &Transaction<'_>) -> Result<Vec<Record>, MigrateError> {
    let recorded = if is_recorded(transaction).await? { recorded(transaction).await? } else { Vec::new() };
    verify(&recorded)?;
    Ok(recorded)
}

/// Refuses a history that is not ours. During an upgrade the newer release has migrated already, and the older one continues
/// beside it: it accepts unknown migrations that allow this, after all that it knows.
fn verify(recorded: &[Record]) -> Result<(), MigrateError> {
    let newest = MIGRATIONS.last().map_or(0, |migration| migration.version);
    for record in recorded {
        let Some(ours) = MIGRATIONS.iter().find(|migration| migration.version == record.version) else {
            let is_later = record.version > newest && is_complete(recorded);
            if is_later && record.compatible_with.is_some_and(|oldest| oldest <= newest) {
                continue;
            }
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
        SELECT pg_advisory_xact_lock(:key)";
    sql!(SQL, key = LOCK_KEY).count(transaction).await?;
    Ok(())
}

async fn is_recorded(transaction: &Transaction<'_>) -> Result<bool, Error> {
    const SQL: &str = "-- migrate::is_recorded
        SELECT to_regclass('t_wechat_migration') IS NOT NULL";
    sql!(SQL).one(transaction).await?.read(0)
}

async fn recorded(transaction: &Transaction<'_>) -> Result<Vec<Record>, Error> {
    // Through to_jsonb, since the last column may be missing.
    const SQL: &str = "-- migrate::recorded
        SELECT version, name, checksum, applied_at, (to_jsonb(m) ->> 'compatible_with')::integer AS compatible_with
          FROM t_wechat_migration m ORDER BY version";
    let record = |row: &Row| {
        Ok(Record {
            version: row.read("version")?,
            name: row.read("name")?,
            checksum: row.read("checksum")?,
            applied_at: row.read("applied_at")?,
            compatible_with: row.read("compatible_with")?,
        })
    };
    sql!(SQL).rows(transaction).await?.iter().map(record).collect()
}

async fn record(transaction: &Transaction<'_>, migration: &Migration) -> Result<Timestamp, Error> {
    const SQL: &str = "-- migrate::record
        INSERT INTO t_wechat_migration (version, name, checksum, compatible_with)
        VALUES (:version, :name, :checksum, :compatible_with)
        RETURNING applied_at";
    let Migration { version, name, sql, compatible_with } = migration;
    let row = sql!(SQL, version, name, checksum = checksum(sql), compatible_with).one(transaction).await?;
    row.read("applied_at")
}

/// Runs text SQL without values.
async fn execute(transaction: &Transaction<'_>, name: &'static str, sql: &str) -> Result<(), Error> {
    transaction.batch_execute(sql).await.map_err(|error| Error::of_query(name, &error))
}

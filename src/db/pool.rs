//! Connections to PostgreSQL: one small pool and the way to a single connection.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Pool, PoolConfig, QueueMode, RecyclingMethod, Runtime, Timeouts,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::ExposeSecret;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Error;
use super::connections::Connections;
use super::health::{Asker, Health};
use crate::config;
use crate::sealing::Sealer;

/// Long enough for a loaded server, short enough to notice a dead one while a claim's lease still runs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection taken from the pool answers within this or counts as away.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);
/// A batch takes milliseconds; a statement this slow is stuck, and its batch is better retried.
const STATEMENT_TIMEOUT_MS: u32 = 10_000;
/// Our transactions are a few statements in a row. One that is idle for this long has lost its process, and its locks would
/// block the process that takes over: a server notices a client that is silently gone only after hours.
const IDLE_IN_TRANSACTION_TIMEOUT_MS: u32 = 10_000;
/// Unacknowledged bytes for this long mean the peer is gone (a cut cable sends nothing).
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Our locks last milliseconds. A longer wait means a forgotten lock, or a table that is being changed, and is reported long
/// before the statement's own timeout. Commands wait as long as that timeout.
const LOCK_TIMEOUT_MS: u32 = 2_000;

/// The pool, how secrets are stored in the tables, and the health of PostgreSQL.
#[derive(Clone)]
pub struct Database {
    pool: Pool,
    connections: Connections,
    sealer: Sealer,
    health: Health,
}

/// How PostgreSQL plans statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planning {
    /// Once for the life of a connection, for any values: for the daemon, which repeats the same statements. By default
    /// PostgreSQL estimates a plan for one small batch to be cheaper than a generic one and plans each time, which takes longer
    /// than the batch.
    Once,
    /// By the values at hand: for commands, which run a statement once, with other filters each time.
    ByValues,
}

/// Why the pool cannot be built: a fault of the configuration, not of the server.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("database.url is not a PostgreSQL URL: {0}")]
    Url(String),
    #[error("database.ca_file {path}: {what}")]
    CaFile { path: String, what: String },
    #[error("the pool cannot be built: {0}")]
    Pool(#[from] deadpool_postgres::BuildError),
}

impl Database {
    /// Prepares the pool; connects to nothing yet. Without [`Self::sealed_by`] secrets are written as they are.
    pub fn new(config: &config::Database, planning: Planning) -> Result<Self, SetupError> {
        let connections = Connections::default();
        Ok(Self {
            pool: pool(client_config(config, planning)?, config, &connections)?,
            connections,
            sealer: Sealer::default(),
            health: Health::default(),
        })
    }

    /// Reads and writes secrets through this sealer.
    pub fn sealed_by(self, sealer: Sealer) -> Self {
        Self { sealer, ..self }
    }

    /// What reads and writes secrets.
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Reports errors and recoveries here.
    pub fn watched_by(self, health: Health) -> Self {
        Self { health, ..self }
    }

    /// The health of PostgreSQL, judged by its answers.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// A connection. Its commits wait for the disk, those of claims too: a claim that is lost in a crash of PostgreSQL would be
    /// granted again, and its message sent twice without being counted.
    pub async fn durable(&self) -> Result<deadpool_postgres::Object, Error> {
        Ok(self.pool.get().await?)
    }

    /// Runs work that is retried until it succeeds, and reports its result.
    pub async fn asked<T>(
        &self,
        asker: Asker,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let answer = self.heard_within(limit, work).await;
        if answer.as_ref().is_err_and(Error::is_stale_statement) {
            // After the tables have changed, a prepared statement can be refused for the life of its connection.
            self.pool.manager().statement_caches.clear();
        }
        self.health.note(asker, &answer);
        answer
    }

    /// Gives up work that has not ended within `limit`, and closes **every** connection: PostgreSQL would have ended a slow
    /// statement itself, so there is no server behind them, and the others would wait forever as well. (TCP notices a peer that
    /// is gone, but not one that hangs, nor a proxy in between.)
    pub async fn heard_within<T, E: From<Error>>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let answer = tokio::time::timeout(limit, work).await;
        answer.unwrap_or_else(|_silence| {
            let connections = self.connections.close_all();
            tracing::warn!(connections, "PostgreSQL does not answer; closing all connections to it");
            Err(Error::Away(format!("no answer within {}s", limit.as_secs())).into())
        })
    }
}

/// Connections beside `database.pool_size`: the lock of a replay keeps one for as long as the replay lasts, which must not
/// exhaust a pool of one; the other is for the readiness probe while all others are busy.
const BESIDE: usize = 2;

fn pool(
    client: tokio_postgres::Config,
    config: &config::Database,
    connections: &Connections,
) -> Result<Pool, SetupError> {
    let manager = Manager::from_connect(
        client,
        connections.connector(tls(config.ca_file.as_deref())?),
        ManagerConfig { recycling_method: RecyclingMethod::Fast },
    );
    let timeouts =
        Timeouts { wait: Some(WAIT_TIMEOUT), create: Some(CONNECT_TIMEOUT), recycle: Some(WAIT_TIMEOUT) };
    // Last in, first out: each connection is a process of PostgreSQL, and the one just used has its caches warm.
    let pool_config =
        PoolConfig { max_size: config.pool_size + BESIDE, timeouts, queue_mode: QueueMode::Lifo };
    Ok(Pool::builder(manager).config(pool_config).runtime(Runtime::Tokio1).build()?)
}

/// The client settings that every connection of ours shares.
pub(crate) fn client_config(
    config: &config::Database,
    planning: Planning,
) -> Result<tokio_postgres::Config, SetupError> {
    let mut client: tokio_postgres::Config =
        config.url.expose_secret().parse().map_err(|error: tokio_postgres::Error| {
            // The parse error names the wrong part, never the password.
            SetupError::Url(error.to_string())
        })?;
    let options = session_options(client.get_options(), planning);
    client
        .application_name("wechat-notifier")
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(TCP_USER_TIMEOUT)
        .keepalives_idle(Duration::from_secs(30))
        .options(options);
    Ok(client)
}

/// Our statements go by keys. A plan is kept for the life of its connection, and one that was made while a table was nearly
/// empty would scan the whole table from then on; compiling a plan (JIT) takes longer than any of ours runs.
const PLANNER: &str = "-c enable_seqscan=off -c jit=off";

/// Keeps what the URL asks for (a search path, say) and adds ours.
fn session_options(own: Option<&str>, planning: Planning) -> String {
    let (plans, lock_timeout_ms) = match planning {
        Planning::Once => ("force_generic_plan", LOCK_TIMEOUT_MS),
        Planning::ByValues => ("auto", STATEMENT_TIMEOUT_MS),
    };
    format!(
        "{} -c synchronous_commit=on -c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={lock_timeout_ms} \
         -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_MS} -c timezone=UTC {PLANNER} \
         -c plan_cache_mode={plans}",
        own.unwrap_or_default()
    )
}

/// TLS with the system's authorities and, where given, one more; used when the URL's `sslmode` asks for it.
pub(crate) fn tls(ca_file: Option<&Path>) -> Result<MakeRustlsConnect, SetupError> {
    let mut roots = rustls::RootCertStore::empty();
    // A broken certificate in the system's store is not ours to report; the rest still works.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let fault = |what: String| SetupError::CaFile { path: path.display().to_string(), what };
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))? {
            let certificate = certificate.map_err(|error| fault(error.to_string()))?;
            roots.add(certificate).map_err(|error| fault(error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SetupError::Url(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

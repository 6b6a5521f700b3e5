//! The open connections of a process, all of which can be closed at once.

use std::sync::{Arc, Mutex, PoisonError};

use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The tasks that drive the connections: a client whose driver is gone answers every request with an error.
#[derive(Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Vec<AbortHandle>>>);

/// Connects for a pool, and remembers each connection.
struct Connector {
    tls: MakeRustlsConnect,
    connections: Connections,
}

impl Connections {
    /// A way for a pool to connect that remembers each connection here.
    pub(super) fn connector(&self, tls: MakeRustlsConnect) -> impl Connect + 'static {
        Connector { tls, connections: self.clone() }
    }

    /// Closes every connection. Returns how many there were.
    pub(super) fn close_all(&self) -> usize {
        let mut open = self.open();
        open.drain(..).filter(|driver| !driver.is_finished()).map(|driver| driver.abort()).count()
    }

    fn add(&self, driver: AbortHandle) {
        let mut open = self.open();
        open.retain(|driver| !driver.is_finished());
        open.push(driver);
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Vec<AbortHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connect for Connector {
    fn connect(
        &self,
        config: &Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        let config = config.clone();
        Box::pin(async move {
            let (client, connection) = config.connect(self.tls.clone()).await?;
            let driver = tokio::spawn(async move {
                // Each request that waits for an answer gets the error as well.
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to PostgreSQL ended");
                }
            });
            self.connections.add(driver.abort_handle());
            Ok((client, driver))
        })
    }
}

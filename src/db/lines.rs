//! The open connections of a process, all of which can be hung up at once.

use std::sync::{Arc, Mutex, PoisonError};

use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The tasks that drive the connections: a client whose driver is gone answers every question with an error.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<AbortHandle>>>);

/// Connects for a pool, and enters what it connects.
struct Entered {
    tls: MakeRustlsConnect,
    lines: Lines,
}

impl Lines {
    /// A way for a pool to connect that enters each connection here.
    pub(super) fn connecting(&self, tls: MakeRustlsConnect) -> impl Connect + 'static {
        Entered { tls, lines: self.clone() }
    }

    /// Ends every connection. Answers how many there were.
    pub(super) fn hang_up(&self) -> usize {
        let mut open = self.open();
        open.drain(..).filter(|driver| !driver.is_finished()).map(|driver| driver.abort()).count()
    }

    fn enter(&self, driver: AbortHandle) {
        let mut open = self.open();
        open.retain(|driver| !driver.is_finished());
        open.push(driver);
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Vec<AbortHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connect for Entered {
    fn connect(
        &self,
        config: &Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        let config = config.clone();
        Box::pin(async move {
            let (client, connection) = config.connect(self.tls.clone()).await?;
            let driver = tokio::spawn(async move {
                // Whoever waits for an answer is told as well.
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to PostgreSQL ended");
                }
            });
            self.lines.enter(driver.abort_handle());
            Ok((client, driver))
        })
    }
}

//! A separate connection that receives notifications (LISTEN) from other processes.
//!
//! Not one of the pool, which drops notifications. A notification is a hint only; its receivers also poll.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::poll_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Connection};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::Error;
use super::pool::{Planning, SetupError, client_config, tls};
use super::row::Read;
use crate::config;
use crate::db::registry::pauses;
use crate::db::registry::tokens::CHANNEL;
use crate::delays::Delays;
use crate::domain::ids::AppId;

/// A listening connection is silent; only a statement now and then shows that the peer is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// An empty statement that takes longer has no peer to answer it.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Notifications between the connection and the listener. A full buffer only delays reading the next ones.
const BUFFER: usize = 256;

/// A notification about the apps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Listening from here on. Earlier notifications may have been missed: read everything.
    Listening,
    /// A token was stored under this version.
    Stored { app_id: AppId, version: i64 },
    /// The row was changed by an operator.
    Changed { app_id: AppId },
}

/// A notification for our schema.
#[derive(Debug, PartialEq, Eq)]
enum Announced {
    OfApp(Heard),
    /// An operator paused or resumed something.
    Pause,
}

/// Receives the notifications of other processes.
pub struct Listener {
    client: tokio_postgres::Config,
    tls: MakeRustlsConnect,
    pauses: Arc<Notify>,
}

/// A listening connection.
struct ListeningConnection {
    client: Client,
    /// Our own schema: a database may have the tables of several installations.
    schema: String,
    payloads: mpsc::Receiver<String>,
    /// Drives the connection; ends with this value.
    _driver: AbortOnDropHandle<()>,
}

impl Listener {
    /// Prepares the connection; connects to nothing yet.
    pub fn new(config: &config::Database) -> Result<Self, SetupError> {
        Ok(Self {
            client: client_config(config, Planning::Once)?,
            tls: tls(config.ca_file.as_deref())?,
            pauses: Arc::default(),
        })
    }

    /// Notified when operators' pauses may have changed.
    pub fn pauses(&self) -> Arc<Notify> {
        Arc::clone(&self.pauses)
    }

    /// Listens and reconnects until the receiver is dropped.
    pub async fn run(self, heard: mpsc::Sender<Heard>) {
        let mut delays = Delays::reconnect();
        let mut up = true;
        loop {
            let error = match self.connect().await {
                Ok(line) => {
                    if !std::mem::replace(&mut up, true) {
                        info!("LISTEN connection restored");
                    }
                    delays.reset();
                    let Err(error) = follow(line, &heard, &self.pauses).await else { return };
                    error
                }
                Err(error) => error,
            };
            if std::mem::replace(&mut up, false) {
                warn!(%error, "LISTEN connection lost; polling until it is back");
            }
            let Some(delay) = delays.next() else { return };
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = heard.closed() => return,
            }
        }
    }

    async fn connect(&self) -> Result<ListeningConnection, Error> {
        let (client, connection) = self.client.connect(self.tls.clone()).await.map_err(away)?;
        let (sender, payloads) = mpsc::channel(BUFFER);
        let driver = AbortOnDropHandle::new(tokio::spawn(drive(connection, sender)));
        client.execute(&format!("LISTEN {CHANNEL}"), &[]).await.map_err(away)?;
        let schema: Option<String> =
            client.query_one("SELECT current_schema()::text", &[]).await.map_err(away)?.read(0)?;
        Ok(ListeningConnection { client, schema: schema.unwrap_or_default(), payloads, _driver: driver })
    }
}

/// Passes on the notifications of one connection. Returns without an error only when the receiver is dropped.
async fn follow(
    mut line: ListeningConnection,
    heard: &mpsc::Sender<Heard>,
    pauses: &Notify,
) -> Result<(), Error> {
    pauses.notify_one();
    if heard.send(Heard::Listening).await.is_err() {
        return Ok(());
    }
    loop {
        tokio::select! {
            news = line.next() => {
                match news? {
                    Announced::Pause => pauses.notify_one(),
                    Announced::OfApp(news) => if heard.send(news).await.is_err() {
                        return Ok(());
                    }
                }
            }
            () = heard.closed() => return Ok(()),
        }
    }
}

impl ListeningConnection {
    /// The next notification for our schema. Cancel safe.
    async fn next(&mut self) -> Result<Announced, Error> {
        loop {
            match timeout(KEEP_ALIVE, self.payloads.recv()).await {
                Ok(Some(payload)) => {
                    if let Some(news) = read(&payload, &self.schema) {
                        return Ok(news);
                    }
                }
                Ok(None) => return Err(Error::Away("the connection ended".to_owned())),
                Err(_silence) => self.ask_nothing().await?,
            }
        }
    }

    /// Is the peer still there? Without a statement a cut connection is never noticed.
    async fn ask_nothing(&self) -> Result<(), Error> {
        match timeout(KEEP_ALIVE_TIMEOUT, self.client.simple_query("")).await {
            Ok(answer) => answer.map(drop).map_err(away),
            Err(_silence) => Err(Error::Away("the connection does not answer".to_owned())),
        }
    }
}

fn away(error: tokio_postgres::Error) -> Error {
    Error::of_query("listen", &error)
}

/// The client makes progress only while its connection is polled. An error here closes the channel.
async fn drive<S, T>(mut connection: Connection<S, T>, payloads: mpsc::Sender<String>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(notification) = message
            && payloads.send(notification.payload().to_owned()).await.is_err()
        {
            return;
        }
    }
}

/// Reads `<schema>:<app_id>:<version>`. No version: the app's row was changed by an operator; a word in its place: something
/// was paused or resumed. `None` = not for us.
fn read(payload: &str, schema: &str) -> Option<Announced> {
    let (app_id, version) = payload.strip_prefix(schema)?.strip_prefix(':')?.rsplit_once(':')?;
    let app_id = AppId::parse(app_id).ok()?;
    if version.is_empty() {
        return Some(Announced::OfApp(Heard::Changed { app_id }));
    }
    if version == pauses::ANNOUNCED {
        return Some(Announced::Pause);
    }
    Some(Announced::OfApp(Heard::Stored { app_id, version: version.parse().ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> AppId {
        AppId::parse("wx1").unwrap()
    }

    #[test]
    fn an_announcement_names_app_and_version() {
        let of_app = |news| Some(Announced::OfApp(news));
        assert_eq!(read("public:wx1:7", "public"), of_app(Heard::Stored { app_id: app(), version: 7 }));
        assert_eq!(read("public:wx1:", "public"), of_app(Heard::Changed { app_id: app() }));
        assert_eq!(read("public:wx1:pause", "public"), Some(Announced::Pause));
    }

    #[test]
    fn other_schemas_and_nonsense_are_not_for_us() {
        for payload in ["other:wx1:7", "public2:wx1:7", "public:wx1:x", "public", "", "public::7"] {
            assert_eq!(read(payload, "public"), None, "{payload}");
        }
    }
}

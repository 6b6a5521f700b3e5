//! A TCP listener with bounds: so many connections at once, and none that stays silent.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// More connections wait in the kernel's queue. Each costs some ten KiB and a file descriptor.
const MAX_CONNECTIONS: usize = 256;
/// Longer than the pauses between two scrapes (a minute by Prometheus' default), so that those keep their connection;
/// after this long without a byte in either direction a client is gone, or holds a place on purpose.
const MAX_IDLE: Duration = Duration::from_secs(75);

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (`{key}`): {source}")]
pub struct BindError {
    key: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// Accepts connections within the bounds above.
pub struct Listener {
    socket: TcpListener,
    places: Arc<Semaphore>,
}

impl Listener {
    /// Listens on an address; `key` is the configuration's word for it.
    ///
    /// # Errors
    /// When the address is taken, or none of this machine's.
    pub async fn bind(address: SocketAddr, key: &'static str) -> Result<Self, BindError> {
        match TcpListener::bind(address).await {
            Ok(socket) => Ok(Self { socket, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }),
            Err(source) => Err(BindError { key, address, source }),
        }
    }

    /// The address in use; tells the port where 0 was asked for.
    ///
    /// # Errors
    /// When the operating system does not know it any more.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed; without a permit the connection would merely go uncounted.
        let place = self.places.clone().acquire_owned().await.ok();
        // axum's own listener knows which faults pass by themselves and pauses after the others.
        let (stream, peer) = axum::serve::Listener::accept(&mut self.socket).await;
        (Connection { stream, idle: Box::pin(sleep(MAX_IDLE)), _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A connection that fails once nothing has moved on it for [`MAX_IDLE`].
pub struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Passes on what the stream says, and watches the clock while it says nothing.
    fn watched<T>(&mut self, context: &mut Context<'_>, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            self.idle.as_mut().reset(Instant::now() + MAX_IDLE);
            return moved;
        }
        self.idle.as_mut().poll(context).map(|()| Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watched(context, moved)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(context, moved)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

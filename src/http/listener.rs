//! A TCP listener with bounds: a maximum of connections, and none that makes others wait.
//!
//! Every connection is accepted at once, so that a probe gets its answer however many others are slow or silent. When all
//! places are taken, the connection that is longest without an answer is closed.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};

use super::places::{Place, Places};

/// Longer than the pauses between two scrapes (a minute by Prometheus' default), so that those keep their connection;
/// a client without a request for this long is gone, or holds a place on purpose.
const MAX_IDLE: Duration = Duration::from_secs(75);
/// From the first byte of a request, or from the connection's start, to the first byte of the answer. More than an answer may
/// take; short enough that holding places with slow requests does not work.
const MAX_REQUEST: Duration = Duration::from_secs(15);

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
    places: Arc<Places>,
}

impl Listener {
    /// Listens on an address; `key` is the configuration's word for it.
    ///
    /// # Errors
    /// When the address is taken, or none of this machine's.
    pub async fn bind(address: SocketAddr, key: &'static str) -> Result<Self, BindError> {
        match TcpListener::bind(address).await {
            Ok(socket) => Ok(Self { socket, places: Arc::default() }),
            Err(source) => Err(BindError { key, address, source }),
        }
    }

    /// The address in use, with the port that was chosen for 0.
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
        // axum's own listener knows which faults pass by themselves and pauses after the others.
        let (stream, peer) = axum::serve::Listener::accept(&mut self.socket).await;
        let place = self.places.take();
        (Connection { stream, place, asked: false, patience: Box::pin(sleep(MAX_REQUEST)) }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A connection that fails when its request or its silence takes too long, or when its place is needed.
pub struct Connection {
    stream: TcpStream,
    place: Place,
    /// A request has begun and its answer has not.
    asked: bool,
    /// Ends where patience ends.
    patience: Pin<Box<Sleep>>,
}

impl Connection {
    /// Bytes of a request came in. Only the first of them count: a slow client gets no more time.
    fn request_came(&mut self) {
        if !self.asked {
            self.asked = true;
            self.patience.as_mut().reset(Instant::now() + MAX_REQUEST);
        }
    }

    /// Bytes of an answer went out: the next request may take its time, and others go first when a place is needed.
    fn answer_went(&mut self) {
        self.asked = false;
        self.patience.as_mut().reset(Instant::now() + MAX_IDLE);
        self.place.renew();
    }

    /// Why the connection must end, if it must, while nothing moves on it.
    fn given_up(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if self.place.poll_needed(context).is_ready() {
            return Poll::Ready(ErrorKind::ConnectionAborted.into());
        }
        self.patience.as_mut().poll(context).map(|()| ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let moved = Pin::new(&mut self.stream).poll_read(context, buffer);
        if moved.is_pending() {
            return self.given_up(context).map(Err);
        }
        if buffer.filled().len() > before {
            self.request_came();
        }
        // A client that always has a byte ready must not exceed its time by it.
        match self.given_up(context) {
            Poll::Ready(why) => Poll::Ready(Err(why)),
            Poll::Pending => moved,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(context, bytes);
        if moved.is_pending() {
            return self.given_up(context).map(Err);
        }
        self.answer_went();
        moved
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

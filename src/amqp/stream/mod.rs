//! The stream below lapin: what the broker sends, with every text made UTF-8.
//!
//! AMQP asks for UTF-8 in names and properties, RabbitMQ does not check it, and lapin ends the whole connection at the
//! first text that is none. So [`repair`] replaces such bytes before lapin sees them, by the same number of others: the
//! frame keeps its length. `wire` finds the replacements again, and the message becomes a dead letter by itself.

mod frames;
mod reader;
mod repair;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::{DummyIO, RuntimeParts};
use async_rs::{Runtime, Tokio};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use lapin::tcp::{AMQPUriTcpExt, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};

use self::reader::Repaired;
pub(super) use self::repair::SUBSTITUTE;

/// The bytes as they are for lapin: TLS, where there is any, is inside.
type Transport = Repaired<AsyncTcpStream<<Tokio as Reactor>::TcpStream>>;
type Kit = RuntimeParts<Tokio, Reading>;

/// Connects, and keeps every text that the broker sends readable for lapin. Must be called inside a tokio runtime.
pub(super) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    tls: OwnedTLSConfig,
) -> lapin::Result<Connection> {
    let tokio = Tokio::current();
    let runtime = Runtime::new(RuntimeParts::new(tokio.clone(), Reading { tokio: tokio.clone() }));
    let connect = async move |uri: AMQPUri, _: Runtime<Kit>| -> lapin::Result<AsyncTcpStream<Transport>> {
        let stream = uri.connect_with_config_async(tls.as_ref(), &Runtime::new(tokio.clone())).await?;
        // Not to be encrypted again: to lapin this is a plain stream.
        Ok(AsyncTcpStream::Plain(Repaired::new(stream)))
    };
    Connection::connector(uri, runtime, connect, properties).await
}

/// tokio's reactor, but for the type of its streams, which lapin takes from here.
#[derive(Debug, Clone)]
struct Reading {
    tokio: Tokio,
}

impl Reactor for Reading {
    type TcpStream = Transport;
    type Sleep = <Tokio as Reactor>::Sleep;

    /// lapin registers nothing.
    fn register<H: Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<DummyIO, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.tokio.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.tokio.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        addr: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.tokio.tcp_connect_addr(addr);
        async move { Ok(Repaired::new(AsyncTcpStream::Plain(connecting.await?))) }
    }
}

#[cfg(test)]
mod tests;

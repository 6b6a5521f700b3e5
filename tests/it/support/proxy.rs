//! A way to a server that can be cut, stalled and slowed: put between a daemon and whatever it talks to, by URL.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::World;

/// A listening port that passes everything on to one server. Gone when dropped, with every connection through it.
pub struct Proxy {
    /// Leads through here to the server.
    pub url: String,
    road: watch::Sender<Road>,
    listener: JoinHandle<()>,
}

/// Proxies to all that a daemon talks to.
pub struct Roads {
    pub broker: Proxy,
    pub database: Proxy,
    pub wechat: Proxy,
}

impl Roads {
    /// New roads to a world's servers.
    pub async fn to(world: &World) -> Self {
        Self {
            broker: Proxy::to(&world.amqp_url).await,
            database: Proxy::to(&world.database_url).await,
            wechat: Proxy::to(&world.wechat.base).await,
        }
    }

    /// What a daemon must be told to take them.
    pub fn settings(&self) -> [(&'static str, &str); 3] {
        [
            ("AMQP__URL", self.broker.url.as_str()),
            ("DATABASE__URL", &self.database.url),
            ("WECHAT__API_BASE", &self.wechat.url),
        ]
    }

    /// All of them.
    pub fn each(&self) -> [&Proxy; 3] {
        [&self.broker, &self.database, &self.wechat]
    }
}

/// The state of the road; every connection watches it.
#[derive(Debug, Clone, Copy)]
struct Road {
    state: State,
    /// Connections that were there before the last cut are gone.
    cuts: u32,
    /// Connections that were there before the last silence pass nothing until they are cut.
    silences: u32,
    /// What travels is this much older when it arrives.
    delay: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Connections stay, and nothing passes, neither way.
    Stalled,
    /// Questions pass and answers do not.
    Unanswered,
    /// The server has seen its connections end; whoever asks sees silence.
    Parted,
    /// Nothing is there.
    Closed,
}

/// Which way something travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

impl Proxy {
    /// Listens in front of the server that a URL names.
    pub async fn to(url: &str) -> Self {
        let server = authority(url).to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap().to_string();
        let (road, _) =
            watch::channel(Road { state: State::Open, cuts: 0, silences: 0, delay: Duration::ZERO });
        let url = url.replacen(&server, &here, 1);
        let listener = tokio::spawn(listen(listener, server, road.clone()));
        Self { url, road, listener }
    }

    /// Every connection breaks now, on both sides; new ones pass.
    pub fn cut(&self) {
        self.road.send_modify(|road| road.cuts += 1);
    }

    /// Every connection breaks now, and new ones do too.
    pub fn close(&self) {
        self.becomes(State::Closed);
        self.cut();
    }

    /// Connections stay, and nothing passes any more. What is on its way waits.
    pub fn stall(&self) {
        self.becomes(State::Stalled);
    }

    /// The connections that there are fall silent for good, as those to a frozen machine do; new ones pass.
    pub fn silence(&self) {
        self.road.send_modify(|road| road.silences += 1);
    }

    /// The server hears and does everything, and nobody hears its answers.
    pub fn hold_answers(&self) {
        self.becomes(State::Unanswered);
    }

    /// A silent partition: the server loses its clients, who are told nothing.
    pub fn part(&self) {
        self.becomes(State::Parted);
    }

    /// What passes takes this much longer from now on.
    pub fn delay(&self, delay: Duration) {
        self.road.send_modify(|road| road.delay = delay);
    }

    /// All is well again. What was parted breaks, what was stalled goes on.
    pub fn heal(&self) {
        self.road.send_modify(|road| {
            road.state = State::Open;
            road.delay = Duration::ZERO;
        });
    }

    fn becomes(&self, state: State) {
        self.road.send_modify(|road| road.state = state);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.close();
    }
}

impl Road {
    fn passes(self, way: Way, begun: Self) -> bool {
        match self.state {
            _ if self.silences != begun.silences => false,
            State::Open => true,
            State::Unanswered => way == Way::ToServer,
            State::Stalled | State::Parted | State::Closed => false,
        }
    }
}

/// `host:port` of a URL.
fn authority(url: &str) -> &str {
    let (_, rest) = url.split_once("://").expect("a URL has a scheme");
    let whole = rest.split(['/', '?']).next().unwrap();
    whole.rsplit_once('@').map_or(whole, |(_user, server)| server)
}

/// Takes connections, except while the road is closed: then nobody listens, and whoever knocks is refused.
async fn listen(mut listener: TcpListener, server: String, road: watch::Sender<Road>) {
    let here = listener.local_addr().unwrap();
    let mut closed = road.subscribe();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                tokio::spawn(carry(client, server.clone(), road.subscribe()));
            }
            _ = until(&mut closed, |now| now.state == State::Closed) => {
                drop(listener);
                if until(&mut closed, |now| now.state != State::Closed).await.is_none() {
                    return;
                }
                listener = TcpListener::bind(here).await.expect("the port is ours still");
            }
        }
    }
}

/// One connection, from its beginning to its end.
async fn carry(client: TcpStream, server: String, mut road: watch::Receiver<Road>) {
    let begun = *road.borrow();
    // Whoever knocks while the road is parted is let in, as a firewall's other side would seem to, and hears nothing.
    if begun.state == State::Parted {
        until(&mut road, |now| now.state != State::Parted || now.cuts != begun.cuts).await;
        return reset(client);
    }
    let Ok(server) = TcpStream::connect(server).await else { return reset(client) };
    let (mut client, mut server) = (client, server);
    let (mut ahead, mut back) = (road.clone(), road.clone());
    let parted = {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let both = async {
            tokio::join!(
                pass(&mut from_client, &mut to_server, &mut ahead, (Way::ToServer, begun)),
                pass(&mut from_server, &mut to_client, &mut back, (Way::ToClient, begun))
            )
        };
        tokio::select! {
            _ended_by_themselves = both => return,
            now = until(&mut road, |now| now.cuts != begun.cuts || now.state == State::Parted) => {
                now.is_some_and(|now| now.cuts == begun.cuts)
            }
        }
    };
    reset(server);
    if parted {
        until(&mut road, |now| now.state != State::Parted || now.cuts != begun.cuts).await;
    }
    reset(client);
}

/// Passes bytes one way until that way ends. What was read when the road stalled waits with us.
async fn pass(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    road: &mut watch::Receiver<Road>,
    (way, begun): (Way, Road),
) {
    let mut bytes = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut bytes).await.unwrap_or(0);
        let delay = road.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if until(road, |now| now.passes(way, begun)).await.is_none() {
            return;
        }
        if read == 0 {
            let _already_gone = to.shutdown().await;
            return;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// Large enough for a batch of rows; a delay counts once for each.
const CHUNK_BYTES: usize = 64 * 1024;

/// Waits for the road to be so; `None`: the proxy is gone.
async fn until(road: &mut watch::Receiver<Road>, wanted: impl Fn(&Road) -> bool) -> Option<Road> {
    road.wait_for(wanted).await.ok().map(|now| *now)
}

/// Ends a connection with RST, as a process that dies or a firewall would.
fn reset(stream: TcpStream) {
    // Without it the kernel says a polite goodbye.
    let _already_gone = stream.set_zero_linger();
}

/// What a fault test stands on must itself be able to fail.
mod tests {
    use super::*;

    /// A server that says everything back, and a proxy to it.
    async fn echo() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("echo://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        Proxy::to(&url).await
    }

    async fn client(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(authority(&proxy.url)).await.unwrap()
    }

    /// Says a word; what comes back in a moment, or nothing.
    async fn says(stream: &mut TcpStream, word: &[u8; 4]) -> Option<std::io::Result<[u8; 4]>> {
        const MOMENT: Duration = Duration::from_millis(200);
        stream.write_all(word).await.unwrap();
        let mut heard = [0; 4];
        let read = tokio::time::timeout(MOMENT, stream.read_exact(&mut heard)).await.ok()?;
        Some(read.map(|_| heard))
    }

    #[tokio::test]
    async fn what_was_stalled_goes_on_and_what_was_cut_does_not() {
        let proxy = echo().await;
        let mut stream = client(&proxy).await;
        assert_eq!(says(&mut stream, b"ping").await.unwrap().unwrap(), *b"ping");
        for hinder in [Proxy::stall, Proxy::hold_answers] {
            hinder(&proxy);
            assert!(says(&mut stream, b"held").await.is_none());
            proxy.heal();
            let mut late = [0; 4];
            stream.read_exact(&mut late).await.unwrap();
            assert_eq!(late, *b"held");
        }
        proxy.cut();
        let broken = stream.read(&mut [0; 4]).await.unwrap_err();
        assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(says(&mut client(&proxy).await, b"anew").await.unwrap().unwrap(), *b"anew");
    }

    #[tokio::test]
    async fn a_parted_client_hears_nothing_until_all_is_well_and_then_its_end() {
        let proxy = echo().await;
        let mut stream = client(&proxy).await;
        says(&mut stream, b"ping").await.unwrap().unwrap();
        proxy.part();
        assert!(says(&mut stream, b"lost").await.is_none());
        proxy.heal();
        assert!(stream.read(&mut [0; 4]).await.is_err());
    }

    #[test]
    fn a_url_keeps_all_but_its_server() {
        for (url, server) in [
            ("amqp://guest:guest@127.0.0.1:5672/%2f", "127.0.0.1:5672"),
            ("postgres://postgres@127.0.0.1:1/postgres?options=-csearch_path%3Dt1", "127.0.0.1:1"),
            ("http://127.0.0.1:80", "127.0.0.1:80"),
        ] {
            assert_eq!(authority(url), server);
        }
    }
}

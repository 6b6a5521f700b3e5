//! A WeChat to test against: the server API that subscribe messages need, with its real rules and oddities, and a second
//! API under `/_sim/` that changes its behaviour and shows what it received.
//!
//! It is written from WeChat's documentation (docs/WECHAT.md) and shares no code with the daemon, so that each checks the
//! other.
//!
//! # Where things are
//! A request to WeChat's side: `routes` finds its endpoint, the endpoint reads it, `serving` takes it through the world,
//! or through a fault, to its answer. Each line may import those below it, never those above:
//!
//! ```text
//! routes      which URL leads to which function
//! endpoints   WeChat's side: token, send, login, templates        control   /_sim/: commands and questions
//! serving     what every request goes through: arrive, wait, be processed, be answered or broken; the socket
//! world       what the platform remembers: apps, users, consents, quotas, login codes; the scenario it starts from
//! tokens      how long a token works      templates   what data fits      faults   rules that make requests fail
//! traffic     endpoints by name, whom a request concerns, the journal and its counters
//! errcode     WeChat's codes and words    clock
//! ```
//!
//! # WeChat's side
//! | call | name in rules and queries |
//! |---|---|
//! | `GET /cgi-bin/token` | `token` |
//! | `POST /cgi-bin/stable_token` | `stable_token` |
//! | `POST /cgi-bin/message/subscribe/send?access_token=` | `send` |
//! | `GET /sns/jscode2session` | `jscode2session` |
//! | `GET /wxaapi/newtmpl/gettemplate?access_token=` | `gettemplate` |
//!
//! Unless a scenario says otherwise, any appid, secret, openid, template and login code is accepted, and consent is counted
//! only where it was registered. Registering makes it stricter.
//!
//! # Scripting: `POST`, JSON; answers `{"done": n}`, or 400 with `{"error": …}`
//! Where the table shows an object, a list of such objects is accepted as well (not for `reset` and `faults`).
//!
//! | path | body |
//! |---|---|
//! | `/_sim/reset` | none: back to the initial scenario; or a scenario `{strict?, latency_ms?, apps?, consents?, faults?, codes?}`, lists of the objects below |
//! | `/_sim/apps` | `{appid, secret?, templates?, token_lifetime_seconds?, token_overlap_seconds?, daily_quota?, minute_quota?, strict_openids?, strict_consent?}`; again for the same app: new settings, fresh quotas |
//! | `/_sim/consent` | `{appid?, openid, template_id, remaining?}`; remaining absent or null: unlimited; appid absent: in every app |
//! | `/_sim/codes` | `{js_code, appid?, openid, unionid?}`: the user of a login code; each works once |
//! | `/_sim/latency` | `{ms, appid?}`; without appid: all apps |
//! | `/_sim/tokens/invalidate` | `{appid, kind?}`, kind `stable` or `classic`: all tokens are answered with 40001 at once, the next fetch is new |
//! | `/_sim/tokens/rotate` | `{appid, kind?}`: as if another system had fetched a token; the old one works until the overlap ends |
//! | `/_sim/faults` | a rule, below; answers `{"id": n}`. `GET` lists, `DELETE` clears all, `DELETE /_sim/faults/{id}` one |
//!
//! A template is `{template_id, title?, content, example?, type?, keyword_enums?: {"enum_string2": ["…"]}}`; data is
//! checked against the keys in `content` (`label:{{thing1.DATA}}`).
//!
//! # Fault rules
//! `{match?: {path?, appid?, openid?, template_id?}, times?, skip?, every?, action}`: of the requests that match, ignore
//! the first `skip`, then apply to every `every`th, `times` times (absent: until cleared). The first rule that applies decides.
//!
//! | action | what the client sees | delivered? |
//! |---|---|---|
//! | `{"errcode": 45009, "errmsg"?: "…"}` | HTTP 200 with that code, WeChat's words by default | no |
//! | `{"http_status": 502, "body"?: "<html>…", "headers"?: {"Retry-After": "3"}}` | just that | no |
//! | `"reset"` | RST after the request was read | no |
//! | `"reset_after_send"` | RST after it was processed | yes |
//! | `"hang"` or `{"hang": true}` | no answer, until it disconnects | no |
//! | `{"slow_body_ms": 500}` | half the body now, the rest later | yes |
//! | `"garbage"` or `{"garbage": true}` | HTTP 200, not JSON | yes |
//! | `{"delay_ms": 100}` | the regular answer, later; can be combined with any other action | yes |
//!
//! `"deliver": true` or `false` beside it overrides the last column. Delivered means processed like any request:
//! consent is used up, the user gets the message — if it would have been accepted.
//! A request that is not delivered never enters the window in which a second one for the same openid gets 43108.
//!
//! # Queries: `GET`
//! All take `appid`, `openid`, `template_id` as filters, except `stats`.
//!
//! | path | answer |
//! |---|---|
//! | `/_sim/sent` | `{total, users: [{appid, openid, count, templates: {id: n}, last?: {page, data}}]}`: what users *got*; `last` with `?full=1` |
//! | `/_sim/doubles` | `{surplus, doubles: [{appid, openid, template_id, message, page, times}]}`: received more than once, compared by data and page |
//! | `/_sim/requests` | `{requests: [{number, received_us, path, appid, openid, template_id, page, errcode, fault}]}`: the newest `limit` (100) of the last 10,000, oldest first; also `path=` |
//! | `/_sim/stats` | `{requests: {path: n}, sends_accepted, sends_by_errcode, token_fetches: {appid: {stable, forced, classic}}, max_concurrent, max_concurrent_per_openid, concurrent_violations, faults_struck, first_request_ms, last_request_ms, first_send_ms, last_send_ms, held}` |

mod clock;
mod control;
mod endpoints;
mod errcode;
mod faults;
mod routes;
mod serving;
mod templates;
mod tokens;
mod traffic;
mod world;

#[cfg(test)]
mod story;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::world::Scenario;

/// A send makes two dozen small allocations; this allocator makes them cheap.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulate WeChat's server API for tests; control it over HTTP under /_sim/.
///
/// Example: wechat-simulator --listen 127.0.0.1:7100
#[derive(Parser)]
struct Arguments {
    /// Address to listen on; port 0 takes a free port, which is printed
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// TOML file with the initial scenario (the body of /_sim/reset, as TOML)
    #[arg(long)]
    config: Option<PathBuf>,
    /// Refuse appids that are not registered
    #[arg(long)]
    strict: bool,
}

/// One thread on purpose: requests are answered in microseconds, nobody waits for the lock, and a benchmark
/// that shares its cores with the simulator is not charged for wake-ups.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).init();
    let mut scenario = arguments.config.as_deref().map_or_else(|| Ok(Scenario::default()), read)?;
    scenario.strict |= arguments.strict;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(arguments.listen).await.context("cannot listen")?;
    announce(listener.local_addr()?)?;
    tokio::select! {
        ended = routes::serve(listener, scenario) => ended.context("the listener failed"),
        // At once: a request that hangs on purpose would keep a graceful end waiting forever.
        _ = terminate.recv() => Ok(()),
    }
}

fn read(file: &Path) -> anyhow::Result<Scenario> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not a scenario", file.display()))
}

/// The one line that tests wait for.
fn announce(address: SocketAddr) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on http://{address}")?;
    stdout.flush()
}

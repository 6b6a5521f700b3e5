//! One HTTP client for all calls to WeChat, and the possible results of a request.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{RequestBuilder, Response, Url};

use crate::config;
use crate::domain::message_kind::MessageKind;

/// An answer of WeChat's is some hundred bytes, a long list of templates some ten thousand. More is not from WeChat.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Proxies in front of APIs close idle connections after 60 s and more. A request written into a connection that is just
/// being closed has an unknown outcome, so ours are closed well before.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// A connection that is not made by then will not be. Always shorter than the request timeout: a connect that fails proves that
/// nothing was sent, a request that times out proves nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the body of an HTTP error may take. If it is read to its end, the connection can be reused; that is not worth a longer wait.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_millis(200);

/// Speaks to WeChat's API. Cheap to clone: the connections are shared.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) http: reqwest::Client,
    request_timeout: Duration,
    /// Where each kind of message goes, in the order of [`MessageKind::ALL`].
    pub(super) send_urls: Vec<Url>,
    pub(super) stable_token_url: Url,
    pub(super) token_url: Url,
}

/// Why the client cannot be built: a fault of the configuration or the machine.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("wechat.api_base is not a URL: {0}")]
    ApiBase(String),
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    #[error("the HTTP client cannot be built: {}", root_cause(.0))]
    Http(#[source] reqwest::Error),
}

/// Why a request brought no readable body. None of them shows the URL, which may hold a token or a secret.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nothing was sent.
    #[error("cannot connect: {}", root_cause(.0))]
    NotConnected(#[source] reqwest::Error),
    /// WeChat may have accepted the request.
    #[error("no answer in time")]
    TimedOut(#[source] reqwest::Error),
    /// The connection ended between request and answer: WeChat may have accepted the request.
    #[error("the connection broke: {}", root_cause(.0))]
    Broken(#[source] reqwest::Error),
    /// An HTTP status other than success. WeChat itself reports its errors under 200 (docs/WECHAT.md#transport).
    #[error("the answer was HTTP {status}")]
    Http { status: u16, retry_after: Option<Duration> },
    #[error("the answer was larger than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
}

impl Client {
    /// `concurrency` is how many requests may be in flight at once: as many connections are kept for the next ones.
    pub fn new(config: &config::WeChat, concurrency: usize) -> Result<Self, SetupError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("wechat-notifier/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls()?)
            // HTTP/2 would share one connection and its stream limit among all requests.
            .http1_only()
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(concurrency)
            .timeout(config.request_timeout)
            .connect_timeout(CONNECT_TIMEOUT.min(config.request_timeout / 2))
            .tcp_nodelay(true)
            .no_gzip()
            .no_proxy()
            // A redirect would carry token and message elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(SetupError::Http)?;
        let endpoint = |path: &str| {
            Url::parse(&format!("{}{path}", config.api_base.trim_end_matches('/')))
                .map_err(|error| SetupError::ApiBase(error.to_string()))
        };
        Ok(Self {
            http,
            request_timeout: config.request_timeout,
            send_urls: MessageKind::ALL.iter().map(|kind| endpoint(kind.path())).collect::<Result<_, _>>()?,
            stable_token_url: endpoint("/cgi-bin/stable_token")?,
            token_url: endpoint("/cgi-bin/token")?,
        })
    }

    /// How long any request may take: leases are made to outlast it.
    pub fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// Asks, and reads the answer to its end. The request timeout covers all of it.
    pub(super) async fn exchange(&self, request: RequestBuilder) -> Result<Vec<u8>, RequestError> {
        let response = request.send().await.map_err(of_transport)?;
        if response.status().is_success() {
            return read_body(response).await;
        }
        let error =
            RequestError::Http { status: response.status().as_u16(), retry_after: retry_after(&response) };
        // The status has decided, whatever the body says.
        let _ = tokio::time::timeout(ERROR_BODY_TIMEOUT, read_body(response)).await;
        Err(error)
    }
}

async fn read_body(mut response: Response) -> Result<Vec<u8>, RequestError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(of_transport)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(RequestError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Only the form in seconds: WeChat is not known to send any, and a proxy's date would have to be trusted on its clock.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Sorts a transport error by what it proves about the request. In doubt WeChat may have accepted it.
fn of_transport(error: reqwest::Error) -> RequestError {
    let error = error.without_url();
    if error.is_connect() || error.is_builder() {
        RequestError::NotConnected(error)
    } else if error.is_timeout() {
        RequestError::TimedOut(error)
    } else {
        RequestError::Broken(error)
    }
}

/// The innermost error says what happened; the outer ones say that something did.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// TLS by ring and the system's authorities, given whole: reqwest would else look for a process-wide default.
fn tls() -> Result<rustls::ClientConfig, SetupError> {
    let mut roots = rustls::RootCertStore::empty();
    // A broken certificate in the system's store is not our fault; the others still work.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(SetupError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

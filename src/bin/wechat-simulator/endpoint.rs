//! The endpoints of WeChat's side, and what all requests to them have in common.

use crate::errcode::Refusal;
use crate::faults::Subject;
use crate::token_index::TokenIndex;
use crate::world::World;

/// Which service a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Send,
    StableToken,
    /// The stable interface with `force_refresh`.
    ForcedToken,
    ClassicToken,
    Login,
    Templates,
}

impl Endpoint {
    /// The name used by fault rules and questions: the last part of the URL's path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::StableToken | Self::ForcedToken => "stable_token",
            Self::ClassicToken => "token",
            Self::Login => "jscode2session",
            Self::Templates => "gettemplate",
        }
    }

    /// The kind of token fetch, where it is one.
    pub fn token_kind(self) -> Option<&'static str> {
        match self {
            Self::StableToken => Some("stable"),
            Self::ForcedToken => Some("forced"),
            Self::ClassicToken => Some("classic"),
            Self::Send | Self::Login | Self::Templates => None,
        }
    }

    /// WeChat labels its JSON in more than one way (docs/WECHAT.md#transport).
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Login => "text/plain",
            _ => "application/json; encoding=utf-8",
        }
    }
}

/// The body of a success, or WeChat's "no".
pub type Verdict = Result<String, Refusal>;

/// A parsed request to one endpoint.
///
/// Arrival and processing are apart because time may pass between them: the latency, or a fault's delay.
pub trait Call: Send + 'static {
    fn endpoint(&self) -> Endpoint;

    /// Whom it concerns, for fault rules and the journal.
    fn subject<'a>(&'a self, tokens: &'a TokenIndex) -> Subject<'a>;

    /// The page to open from a message; only sends have one.
    fn page(&self) -> Option<&str> {
        None
    }

    /// What is decided the moment the request arrives.
    ///
    /// # Errors
    /// Refused at once; it will not be processed.
    fn begin(&mut self, _world: &mut World, _now_ms: u64) -> Result<(), Refusal> {
        Ok(())
    }

    /// The work itself; called once for each call that began.
    fn process(&self, world: &mut World, now_ms: u64) -> Verdict;
}

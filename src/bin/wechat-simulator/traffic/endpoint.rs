//! The endpoints of WeChat's side, and the names that rules and questions use for them.

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

//! All that knows WeChat's wire: requests out, answers in, no decisions.
//!
//! [`Client`] speaks HTTP; [`AccessToken`] is what pays for a request. What a message says is of its kind. What an answer
//! means for a delivery is decided in the domain, what it means for a token in `token`.

mod access_token;
mod client;
mod fetch;
mod send;

pub use access_token::AccessToken;
pub use client::{Client, RequestError, SetupError};
pub use fetch::{FetchedToken, TokenFetchError};

//! WeChat's side: one file an endpoint. Each reads its request, and says as a [`Call`](crate::serving::Call) what it does.

pub mod login;
mod request;
pub mod send;
pub mod templates;
pub mod token;

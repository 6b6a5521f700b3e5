//! The integration tests: one binary, one file a story.

mod scratch;
mod token;
mod wechat_client;

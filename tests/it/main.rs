//! The integration tests: stories told at the wire, on a real RabbitMQ, a real PostgreSQL and a simulated WeChat.
//! Run them through `./tests/run`.

mod scratch;
mod support;

mod cli;
#[cfg(feature = "failpoints")]
mod crash_points;
mod kill_storm;
mod letters;
mod main_story;
mod migrations;
mod restarts;
mod token;
mod token_storm;
mod wechat_client;

//! The integration tests: stories told at the wire, on a real RabbitMQ, a real PostgreSQL and a simulated WeChat.
//! Run them through `./tests/run`.

mod scratch;
mod support;

mod broker;
mod cli;
mod fan_out;
mod letters;
mod main_story;
mod migrations;
mod tidy;
mod token;
mod wechat_client;

//! The integration tests: stories told at the wire, on a real RabbitMQ, a real PostgreSQL and a simulated WeChat.
//! Run them through `./tests/run`.
#![allow(
    clippy::disallowed_methods,
    reason = "the bans keep time and SQL text in their places in the product; tests set the stage"
)]

mod scratch;
mod support;

mod big_loads;
mod broker;
mod cli;
mod crash_points;
mod database_crashes;
mod dead_letters;
mod dlq;
mod error_codes;
mod fan_out;
mod faults;
mod idle_broker;
mod inputs;
mod installation;
mod kill_storm;
mod lanes;
mod main_story;
mod manual;
mod migrations;
mod operating;
mod pauses;
mod phases;
mod poison;
mod protocol_sql;
mod protocol_story;
mod publishers;
mod rates;
mod replay;
mod restarts;
mod retention;
mod sealing;
mod shapes;
mod soak;
mod stopping;
mod stranded;
mod task_panics;
mod tidy;
mod tls;
mod token;
mod token_storm;
mod wechat_client;

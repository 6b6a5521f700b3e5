//! wechat-notifier: business events in, WeChat subscribe messages out.
//!
//! A publisher puts an **event** on RabbitMQ. For every **recipient** that the rules name and whose consent allows it, the
//! event becomes a **delivery**, which is claimed in the **ledger** (PostgreSQL), sent to WeChat, and settled: `sent`,
//! `skipped`, tried again later, or `dead` and kept as a dead letter.
//!
//! ```text
//! amqp::consumer ─► pipeline::intake ─► pipeline::plan ─► pipeline::ready ─► db::ledger::claim ─► wechat::send
//!                                                                                          │
//!        ack ◄── db::ledger::settle ◄── amqp::publisher (retry, dead letter) ◄── domain::decide ◄── domain::answer
//! ```
//!
//! Read `pipeline` first, then `domain::protocol`, the table that makes "nothing lost, nothing doubled" true.
//! A module below imports only from those above it in this list; `tests/it/tidy.rs` checks it.

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the documentation is for those who work here, and built with private items"
)]

// The rules: pure, no I/O, no clock.
pub mod domain;

// Used by all modules below.
pub mod clock;
pub mod config;
pub mod delays;
pub mod failpoint;
pub mod lifecycle;
pub mod metrics;
pub mod sealing;
pub mod telemetry;

// Adapters: each names one third-party client, and none imports another.
pub mod amqp;
pub mod db;
pub mod wechat;

// The daemon's work.
pub mod admission;
pub mod health;
pub mod token;

pub mod pipeline;

pub mod dead_letters;

// Its interfaces.
pub mod http;

pub mod cli;

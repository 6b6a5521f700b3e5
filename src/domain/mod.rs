//! The rules of the product, pure: no I/O, no async, no clock.
//!
//! In reading order: what was said ([`event`]), who is meant ([`recipient`], [`consent`]), the duty that follows
//! ([`delivery`], and the message it waits in, [`delivery_message`]), how two processes share it ([`protocol`]), what is
//! particular to a kind of message ([`message_kind`]), what WeChat's answer means ([`answer`]), what follows from that ([`outcome`], and for the app, [`pause`]), and when to try again ([`ladder`]).

pub mod answer;
pub mod app;
pub mod consent;
pub mod dead_letter;
pub mod decide;
pub mod delivery;
pub mod delivery_message;
pub mod event;
pub mod ids;
pub mod ladder;
pub mod message_kind;
pub mod outcome;
pub mod pause;
pub mod plan;
pub mod protocol;
pub mod recipient;
pub mod replay;
pub mod runbook;
pub mod visible;

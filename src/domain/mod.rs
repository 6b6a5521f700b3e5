//! The rules of the product, pure: no I/O, no async, no clock.
//!
//! In reading order: what was said ([`event`]), who is meant ([`recipient`], [`consent`]), the duty that follows
//! ([`delivery`], and the message it waits in, [`carrier`]), how two processes share it ([`protocol`]), what WeChat's
//! answer means ([`answer`]), what follows from that ([`outcome`], and for the app, [`pause`]), and when to try again ([`ladder`]).

pub mod answer;
pub mod app;
pub mod carrier;
pub mod consent;
pub mod decide;
pub mod delivery;
pub mod event;
pub mod ids;
pub mod ladder;
pub mod letter;
pub mod outcome;
pub mod pause;
pub mod plan;
pub mod playbook;
pub mod protocol;
pub mod recipient;
pub mod replay;
pub mod visible;

//! The rules of the product, pure: no I/O, no async, no clock.
//!
//! In reading order: what was said ([`event`]), who is meant ([`recipient`], [`consent`]), the duty that follows
//! ([`delivery`]), how two processes share it ([`protocol`]), what WeChat's answer means ([`answer`]), what follows from
//! that ([`outcome`]), and when to try again ([`ladder`]).

pub mod answer;
pub mod consent;
pub mod delivery;
pub mod event;
pub mod ids;
pub mod ladder;
pub mod letter;
pub mod outcome;
pub mod protocol;
pub mod recipient;

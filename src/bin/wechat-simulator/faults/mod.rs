//! Faults on demand: rules that select requests, and what then goes wrong with them.

mod action;
mod rule;

pub use self::action::{Action, Answer};
pub use self::rule::{Faults, Rule};

//! The simulator's own side, `/_sim/…`: commands change the world, questions ask what happened.

pub mod commands;
pub mod questions;

//! The command line, as an operator and a script meet it: the real binary against a real database.

mod dependencies;
mod printed;
mod registry;
mod stories;
pub mod terminal;
mod trust;

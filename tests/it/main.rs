//! The integration tests: one binary, one file a story.

mod cli;
mod letters;
mod migrations;
mod scratch;

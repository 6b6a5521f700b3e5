//! The integration tests: one binary, one file a story.

mod cli;
mod migrations;
mod scratch;

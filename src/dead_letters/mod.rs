//! What the daemon gave up on: archived so that a person can look, and bring it back.

pub mod archive;
pub mod archiver;
mod reading;
pub mod replay;

pub use archive::{Verdict, archive_batch};
pub use reading::{Arrived, read};

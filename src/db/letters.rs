//! The archive of dead letters.

mod archive;
mod browse;
mod carried;
mod close;
pub(in crate::db) mod filter;

pub use archive::{Letter, archive};
pub use browse::{Found, Whole, list, show};
pub use carried::settle_carried;
pub use close::{Act, Closing, Done, close, count, done_to};
pub use filter::Filter;

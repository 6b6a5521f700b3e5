//! The archive of dead letters.

mod archive;
mod browse;
mod carried;
pub(in crate::db) mod filter;

pub use archive::{Letter, archive};
pub use browse::{Found, Whole, list, show};
pub use carried::settle_carried;
pub use filter::Filter;

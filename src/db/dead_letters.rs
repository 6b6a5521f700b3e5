//! The archive of dead letters.

mod archive;
mod browse;
mod carried;
mod close;
pub(in crate::db) mod filter;
mod groups;
mod stranded;

pub use archive::{DeadLetter, archive};
pub use browse::{Found, Whole, list, newest, of_delivery, page, show};
pub use carried::settle_carried;
pub use close::{Act, Closed, Closing, Done, acts, close, count, done_to};
pub use filter::Filter;
pub use groups::{Group, Tally, groups, tally};
pub use stranded::{Choice, Stranded, close_stranded, stranded};

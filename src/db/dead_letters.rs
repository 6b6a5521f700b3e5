//! The archive of dead letters.

mod archive;
mod browse;
mod close;
pub(in crate::db) mod filter;
mod groups;
pub(in crate::db) mod row;
mod settle;
mod stranded;

pub use archive::{Received, archive};
pub use browse::{Whole, list, newest, of_delivery, page, show};
pub use close::{Act, Closed, Closing, Done, acts, close, count, done_to};
pub use filter::Filter;
pub use groups::{Group, Tally, groups, tally};
pub use row::Archived;
pub use settle::settle_given_up;
pub use stranded::{Choice, Stranded, close_stranded, stranded};

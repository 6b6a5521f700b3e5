//! The archive of dead letters.

mod archive;
mod browse;
mod carried;
mod stranded;

pub use archive::{Letter, archive};
pub use browse::{Filter, Found, Whole, list, show};
pub use carried::settle_carried;
pub use stranded::{Choice, Stranded, close_stranded, stranded};

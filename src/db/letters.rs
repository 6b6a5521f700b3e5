//! The archive of dead letters.

mod archive;
mod browse;
mod delivery_limit;

pub use archive::{Letter, archive};
pub use browse::{Filter, Found, Whole, list, show};
pub use delivery_limit::settle_delivery_limit;

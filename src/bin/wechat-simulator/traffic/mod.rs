//! Requests as everybody here speaks of them: by endpoint, by whom they concern, and what is remembered of them.

mod counters;
mod endpoint;
mod journal;
mod subject;

pub use self::endpoint::Endpoint;
pub use self::journal::Journal;
pub use self::subject::{Selector, Subject};

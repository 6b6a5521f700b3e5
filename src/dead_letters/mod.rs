//! What the daemon gave up on: archived so that a person can look, and bring it back.

pub mod archive;
pub mod archiver;
mod count;
mod ledger_retention;
mod read;
pub mod replay;
mod retention;
mod stranded;
mod unfinished;

pub use archive::{Verdict, archive_batch};
pub use count::count_dead_letters;
pub use ledger_retention::remove_old;
pub use read::read;
pub use retention::purge_old;
pub use stranded::{Kept, dead_letter_of_stranded};
pub use unfinished::count_unfinished;

//! Replays: the set of each, what is left of it, and what became of it.

mod account;
mod candidate;
mod outcomes;
mod pauses;
mod progress;
mod set;

pub use account::{Account, Fate, account, fates, history};
pub use candidate::{Candidate, PAGE, matching_page, pending};
pub use outcomes::{End, Ended, ends, settle_page};
pub use pauses::{Pauses, pauses};
pub use progress::{Held, Mark, Marked, Standing, hold, mark, move_on, pass_step, resume, standing, tally};
pub use set::{EditedBody, Fixed, Order, cut_off, editable, fix_set};

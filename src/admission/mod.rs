//! May it go now? What a delivery waits for before its request: the lock of its recipient, and its app's [`Limits`], which are
//! slots (requests in flight), a rate and a day's quota.

mod limits;
mod quota;
mod rates;
mod recipient_locks;
mod slots;

pub use limits::{AppLimits, LONG_WAIT, Limits, Share};
pub use quota::UsedUp;
pub use recipient_locks::{RecipientLock, RecipientLocks};
pub use slots::Rank;

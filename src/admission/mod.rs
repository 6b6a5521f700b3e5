//! May it go now? What a delivery waits for before its request: the lock of its recipient, a slot, a permit of its app's rate
//! and one of its day's quota.

mod quota;
mod rates;
mod recipient_locks;
mod slots;

pub use quota::{NoneInHand, Permit, Quotas, UsedUp};
pub use rates::{BURST, Rates};
pub use recipient_locks::{RecipientLock, RecipientLocks};
pub use slots::{Rank, Slot, Slots};

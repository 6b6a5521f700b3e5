//! The access token of every app: one task fetches, everybody else reads.
//!
//! [`Refresher`] owns what is known of every app and publishes it; senders look into the [`TokenCache`]. Tokens are
//! counted by *generation*, the version of the row they are stored under: a complaint about an older generation is
//! ignored, so a storm of rejections causes one fetch, here (one refresh per app at a time) and across processes
//! (`db::registry::tokens`).
//!
//! In reading order: `cache` what senders see, `entry` and `settle` what is decided for one app (no I/O), `tracked` all
//! apps, `refresh` one refresh from WeChat and the row, `reading` how rows become known, `refresher` the task that brings
//! them together.

mod cache;
mod entry;
mod reading;
mod refresh;
mod refresher;
mod rejections;
mod settle;
mod timing;
mod tracked;

pub use cache::{AppState, FaultReason, Lookup, LookupError, TokenCache, TokenState};
pub use refresh::RefreshResult;
pub use refresher::{Refresher, Surroundings};
pub use timing::Timing;
pub use tracked::RefreshHook;

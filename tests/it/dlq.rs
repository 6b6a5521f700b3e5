//! Dead letters as the person on call meets them: archived whole, understood, closed, and accounted for.

mod archived;
mod browsed;
mod closed;
mod logged;
mod many;

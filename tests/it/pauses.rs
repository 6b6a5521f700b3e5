//! Pauses: whom an outage is charged to, templates that are paused alone, and what operators see and say.

mod away;
mod by_hand;
mod template;
mod told;

//! All that knows lapin: the broker's connections, what is declared there, consuming, acking and publishing.
//!
//! ```text
//! Broker ─┬─ events link ───────┐
//!         ├─ deliveries link ───┼─► Subscription ──► Incoming { message, ack handle } ──► ack task (prefixes)
//!         ├─ dead letters link ─┘
//!         └─ publishing link ──► publisher task (confirms in batches) ◄── Publisher
//! ```
//!
//! Publishing has its own connection, because lapin writes nothing at all (no ack, no heartbeat) on one that the broker
//! has blocked, and the broker blocks only connections that publish. The consumed queues have one each, so that what ends
//! one (a queue of another shape, a fault of the client) leaves the others alone. Below lapin, [`stream`] makes foreign texts
//! UTF-8, since lapin ends a connection over one that is not. lapin's own recovery stays off: a consumer recovered by it can fall
//! silent forever on a healthy connection, and its old delivery tags ack messages of the new channel
//! (docs/STACK.md#recovery-stays-off). A [`link`] rebuilds everything instead, and an ack can only reach the channel it came
//! from.

mod acks;
mod acks_task;
mod attacher;
mod attachment;
mod broker;
mod confirm;
mod consumer;
pub mod dead_letter;
mod declare;
mod guarded;
mod guest;
mod header;
mod health;
mod incoming;
mod link;
mod live;
mod message;
mod outgoing;
pub mod own;
mod publisher;
mod request;
mod stream;
mod topology;
mod wire;

/// For `benches/micro.rs` alone: inside, only the writer of the acks knows the window.
#[cfg(feature = "bench")]
pub use acks::{AckWindow, DueAcks};
pub use broker::{Broker, NotReady, SetupError};
pub use consumer::Subscription;
pub use declare::TopologyError;
pub use guest::Guest;
pub use header::{HeaderValue, Headers, TRACEPARENT};
pub use health::{Health, LinkHealth};
pub use incoming::{AckHandle, Incoming};
pub use message::Message;
pub use outgoing::{PublishError, Route};
pub use publisher::Publisher;
pub use request::LinkError;
pub use topology::Topology;

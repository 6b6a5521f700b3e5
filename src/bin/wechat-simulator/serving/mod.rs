//! What every request to WeChat's side goes through, at each endpoint: from the socket through the world, or a fault, to
//! the answer.

mod answer;
mod call;
mod simulator;
mod wire;

pub use self::call::{Call, Verdict};
pub use self::simulator::Simulator;
pub use self::wire::{CuttableListener, Peer};

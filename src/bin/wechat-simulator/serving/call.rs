//! What all requests to WeChat's side have in common.

use crate::errcode::Refusal;
use crate::tokens::TokenIndex;
use crate::traffic::{Endpoint, Subject};
use crate::world::World;

/// The body of a success, or WeChat's "no".
pub type Verdict = Result<String, Refusal>;

/// A parsed request to one endpoint.
///
/// Arrival and processing are apart because time may pass between them: the latency, or a fault's delay.
pub trait Call: Send + 'static {
    fn endpoint(&self) -> Endpoint;

    /// Whom it concerns, for fault rules and the journal.
    fn subject<'a>(&'a self, tokens: &'a TokenIndex) -> Subject<'a>;

    /// The page to open from a message; only sends have one.
    fn page(&self) -> Option<&str> {
        None
    }

    /// What is decided the moment the request arrives.
    ///
    /// # Errors
    /// Refused at once; it will not be processed.
    fn begin(&mut self, _world: &mut World, _now_ms: u64) -> Result<(), Refusal> {
        Ok(())
    }

    /// The work itself; called once for each call that began.
    fn process(&self, world: &mut World, now_ms: u64) -> Verdict;
}

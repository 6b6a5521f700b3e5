//! Whether this process is ready, and what is missing if not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// What must be there; a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The connection that brings messages.
    BrokerConsuming,
    /// The connection that publishes messages.
    BrokerPublishing,
    /// PostgreSQL answers, and has the tables this version needs.
    Database,
    /// The consumer of fresh events is subscribed.
    Consumer,
    /// Messages in hand are settled, deferred or given up.
    Progress,
    /// The long-lived tasks run.
    Tasks,
}

impl Part {
    /// Every part, in the order of the answer of `/readyz`.
    pub const ALL: [Self; 6] = [
        Self::BrokerConsuming,
        Self::BrokerPublishing,
        Self::Database,
        Self::Consumer,
        Self::Progress,
        Self::Tasks,
    ];

    /// The word in the answer of `/readyz`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BrokerConsuming => "broker_consuming",
            Self::BrokerPublishing => "broker_publishing",
            Self::Database => "database",
            Self::Consumer => "consumer",
            Self::Progress => "progress",
            Self::Tasks => "tasks",
        }
    }
}

/// A part that is missing, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub part: &'static str,
    pub why: String,
}

/// The state of all parts. Clones share it.
#[derive(Clone)]
pub struct Readiness {
    draining: CancellationToken,
    parts: Arc<Mutex<[Result<(), String>; Part::ALL.len()]>>,
}

impl Readiness {
    /// Everything is missing until it is reported. Once `draining` is cancelled (the soft stop), this process is
    /// never ready again.
    pub fn new(draining: CancellationToken) -> Self {
        let not_yet = Part::ALL.map(|_| Err("not started yet".to_owned()));
        Self { draining, parts: Arc::new(Mutex::new(not_yet)) }
    }

    /// Sets the state of a part. The reason goes into logs and answers: no secret, no URL with a password. Setting the same again
    /// is cheap and silent.
    pub fn set(&self, part: Part, state: Result<(), String>) {
        let mut parts = self.parts();
        let was_ready = parts.iter().all(Result::is_ok);
        parts[part as usize] = state;
        let missing = missing(&*parts);
        drop(parts);
        if was_ready && let [first, ..] = &missing[..] {
            warn!(part = first.part, why = first.why, "not ready: {} is missing", first.part);
        } else if !was_ready && missing.is_empty() {
            info!("ready");
        }
    }

    /// What is missing; nothing means ready.
    pub fn missing(&self) -> Vec<Missing> {
        let draining = Missing { part: "draining", why: "this process is stopping".to_owned() };
        let draining = self.draining.is_cancelled().then_some(draining);
        draining.into_iter().chain(missing(&*self.parts())).collect()
    }

    fn parts(&self) -> MutexGuard<'_, [Result<(), String>; Part::ALL.len()]> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing(parts: &[Result<(), String>]) -> Vec<Missing> {
    let pairs = Part::ALL.iter().zip(parts);
    pairs
        .filter_map(|(part, state)| Some(Missing { part: part.as_str(), why: state.clone().err()? }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> (Readiness, CancellationToken) {
        let draining = CancellationToken::new();
        let readiness = Readiness::new(draining.clone());
        Part::ALL.iter().for_each(|part| readiness.set(*part, Ok(())));
        (readiness, draining)
    }

    #[test]
    fn a_new_process_misses_everything() {
        let missing = Readiness::new(CancellationToken::new()).missing();
        let parts: Vec<_> = missing.iter().map(|missing| missing.part).collect();
        assert_eq!(parts, Part::ALL.map(Part::as_str));
    }

    #[test]
    fn what_is_missing_is_named_with_its_reason() {
        let (readiness, _) = ready();
        assert_eq!(readiness.missing(), []);
        readiness.set(Part::Database, Err("PostgreSQL is away".to_owned()));
        assert_eq!(readiness.missing(), [Missing { part: "database", why: "PostgreSQL is away".to_owned() }]);
    }

    #[test]
    fn a_soft_stop_ends_readiness() {
        let (readiness, draining) = ready();
        draining.cancel();
        assert_eq!(readiness.missing()[0].part, "draining");
    }
}

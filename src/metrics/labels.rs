//! Label values that come from outside, kept to a bounded number.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

/// What a value is called once the bound is reached, or when it was never admitted.
pub(super) const OTHER: &str = "other";

/// A set of label values that only grows, up to a bound. Reading takes a shared lock and copies nothing.
pub(super) struct Bounded<K> {
    known: RwLock<HashMap<K, Arc<str>>>,
    max: usize,
}

impl<K: Eq + Hash> Bounded<K> {
    /// At most `max` values of their own.
    pub(super) fn new(max: usize) -> Self {
        Self { known: RwLock::new(HashMap::new()), max }
    }

    /// Admits a value and says its label; a full set admits no new one.
    pub(super) fn admit(&self, key: K, label: &str) -> Option<Arc<str>> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= self.max && !known.contains_key(&key) {
            return None;
        }
        Some(known.entry(key).or_insert_with(|| label.into()).clone())
    }

    /// The value's label, where it was admitted.
    pub(super) fn get<Q>(&self, key: &Q) -> Option<Arc<str>>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_set_admits_no_more() {
        let codes = Bounded::new(1);
        assert!(codes.admit(40001, "40001").is_some());
        assert!(codes.admit(42001, "42001").is_none());
        assert!(codes.admit(40001, "40001").is_some());
        assert_eq!(codes.get(&40001).as_deref(), Some("40001"));
        assert_eq!(codes.get(&42001), None);
    }
}

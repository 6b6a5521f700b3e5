//! Codes that no source lists: each is logged once.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::domain::answer::{MAX_UNLISTED_ATTEMPTS, SendAnswer};
use crate::domain::ids::AppId;

/// Codes remembered. WeChat invents a handful in a year; what answers with more is not WeChat, and its codes mean nothing.
const MAX_CODES: usize = 100;

/// The codes logged so far.
#[derive(Default)]
pub(super) struct Unlisted(Mutex<BTreeSet<i64>>);

impl Unlisted {
    /// Logs the code of an answer, the first time it is seen.
    pub(super) fn note(&self, app_id: &AppId, answer: &SendAnswer) {
        let facts = answer.facts();
        let Some(errcode) = facts.errcode.filter(|errcode| self.is_new(*errcode)) else { return };
        let (errmsg, rid) = (facts.errmsg.unwrap_or_default(), facts.rid.unwrap_or_default());
        tracing::error!(%app_id, errcode, errmsg, rid, "WeChat answered with a code that is not in our table; the delivery \
            gets {MAX_UNLISTED_ATTEMPTS} attempts; please report the code");
    }

    fn is_new(&self, errcode: i64) -> bool {
        // Nothing panics under this lock; if it did, the set would still be whole.
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.len() < MAX_CODES && codes.insert(errcode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_new_once_and_there_are_only_so_many() {
        let unlisted = Unlisted::default();
        assert!(unlisted.is_new(20_000) && !unlisted.is_new(20_000));
        let more = (0..1_000).filter(|errcode| unlisted.is_new(*errcode)).count();
        assert_eq!(more, MAX_CODES - 1);
    }
}

//! Decides what a replay does with a dead letter.

use std::time::Duration;

use jiff::Timestamp;

use super::contents::Contents;
use crate::db::replay::{Candidate, Pauses};
use crate::domain::replay::{self, Refusal, Standing, Subject, Verdict};

/// The daemon's limits, which a dead letter would meet again.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long an event that names no end stays worth sending.
    pub default_ttl: Duration,
    /// A larger body would die as `oversized`.
    pub max_body_bytes: usize,
}

/// How one replay looks at its dead letters.
pub(super) struct View<'a> {
    pub(super) terms: &'a Terms,
    pub(super) even_expired: bool,
    pub(super) re_resolve: bool,
    /// Paused when the command began. What is paused later waits in its lane.
    pub(super) pauses: &'a Pauses,
}

/// What to do with a dead letter.
pub(super) enum Judgement {
    Publish(Contents),
    IsOut,
    Refuse(Refusal),
}

/// Judges a dead letter by what it holds and by what ledger and registry say of it.
pub(super) fn judge(candidate: &Candidate, view: &View<'_>, now: Timestamp) -> Judgement {
    let Some(contents) = Contents::of(candidate, view.terms.default_ttl) else {
        return Judgement::Refuse(Refusal::NeedsBody);
    };
    let subject = match candidate.epoch {
        Some(epoch) => Subject::Delivery {
            epoch,
            row: candidate.row,
            dead_letter_epoch: candidate.archived.dead_letter.epoch,
        },
        None => Subject::Event {
            had_rows: candidate.had_rows,
            has_rows: candidate.has_rows,
            re_resolve: view.re_resolve,
        },
    };
    let expired = contents.is_expired(now) && !view.even_expired;
    match replay::judge(&Standing { subject, app_known: candidate.app_known, expired }) {
        Verdict::Publish if view.is_paused(&contents) => Judgement::Refuse(Refusal::Paused),
        Verdict::Publish => Judgement::Publish(contents),
        Verdict::IsOut => Judgement::IsOut,
        Verdict::Refuse(refusal) => Judgement::Refuse(refusal),
    }
}

impl View<'_> {
    fn is_paused(&self, contents: &Contents) -> bool {
        self.pauses.cover(contents.event.app_id.as_str(), contents.event.template_id.as_str())
    }
}

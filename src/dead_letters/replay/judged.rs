//! A dead letter, read and judged.

use std::time::Duration;

use jiff::Timestamp;

use super::contents::Contents;
use crate::db::replay::{Candidate, Pauses};
use crate::domain::replay::{Refusal, Standing, Subject, Verdict, judge};

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
pub(super) enum Judged {
    Publish(Contents),
    IsOut,
    Refuse(Refusal),
}

/// Judges a dead letter by what it holds and by what ledger and registry say of it.
pub(super) fn judged(dead_letter: &Candidate, view: &View<'_>, now: Timestamp) -> Judged {
    let Some(contents) = Contents::of(dead_letter, view.terms.default_ttl) else {
        return Judged::Refuse(Refusal::NeedsBody);
    };
    let subject = match dead_letter.epoch {
        Some(epoch) => Subject::Delivery {
            epoch,
            row: dead_letter.row,
            dead_letter_epoch: dead_letter.dead_letter_epoch,
        },
        None => Subject::Event {
            had_rows: dead_letter.had_rows,
            has_rows: dead_letter.has_rows,
            re_resolve: view.re_resolve,
        },
    };
    let expired = contents.is_expired(now) && !view.even_expired;
    match judge(&Standing { subject, app_known: dead_letter.app_known, expired }) {
        Verdict::Publish if view.is_paused(&contents) => Judged::Refuse(Refusal::Paused),
        Verdict::Publish => Judged::Publish(contents),
        Verdict::IsOut => Judged::IsOut,
        Verdict::Refuse(refusal) => Judged::Refuse(refusal),
    }
}

impl View<'_> {
    fn is_paused(&self, contents: &Contents) -> bool {
        self.pauses.cover(contents.event.app_id.as_str(), contents.event.template_id.as_str())
    }
}

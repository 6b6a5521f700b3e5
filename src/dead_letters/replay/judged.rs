//! A letter, read and judged.

use std::time::Duration;

use jiff::Timestamp;

use super::contents::Contents;
use crate::db::replay::{Candidate, Pauses};
use crate::domain::replay::{Refusal, Standing, Subject, Verdict, judge};

/// The daemon's limits, which a letter would meet again.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long an event that names no end stays worth sending.
    pub default_ttl: Duration,
    /// A larger body would die as `oversized`.
    pub max_body_bytes: usize,
}

/// How one replay looks at its letters.
pub(super) struct View<'a> {
    pub(super) terms: &'a Terms,
    pub(super) even_expired: bool,
    pub(super) re_resolve: bool,
    /// Paused when the command began. What is paused later waits in its lane.
    pub(super) pauses: &'a Pauses,
}

/// What to do with a letter.
pub(super) enum Judged {
    Publish(Contents),
    IsOut,
    Refuse(Refusal),
}

/// Judges a letter by what it holds and by what ledger and registry say of it.
pub(super) fn judged(letter: &Candidate, view: &View<'_>, now: Timestamp) -> Judged {
    let Some(contents) = Contents::of(letter, view.terms.default_ttl) else {
        return Judged::Refuse(Refusal::NeedsBody);
    };
    let subject = match letter.turn {
        Some(turn) => Subject::Delivery { turn, row: letter.row, letter_turn: letter.letter_turn },
        None => Subject::Event {
            had_rows: letter.had_rows,
            has_rows: letter.has_rows,
            re_resolve: view.re_resolve,
        },
    };
    let expired = contents.is_expired(now) && !view.even_expired;
    match judge(&Standing { subject, app_known: letter.app_known, expired }) {
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

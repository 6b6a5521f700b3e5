//! When to take one message at a time: a message that cannot be parsed kills the connection it comes on.
//!
//! lapin refuses a delivery whose texts are not UTF-8 (a Latin-1 `message_id`, say) and ends the whole connection over it.
//! The broker then counts a failed delivery for everything that was prefetched, up to its limit, and would give up
//! hundreds of innocent messages together with the bad one. With a prefetch of 1 only the message at hand is counted.

use std::time::Duration;

use lapin::ErrorKind;

/// A bad message ends a connection within milliseconds of its consumer; an end after this long has another cause. Longer
/// would slow consumers for nothing, shorter could miss it on a loaded machine.
const QUICK: Duration = Duration::from_secs(10);
/// Quick ends in a row that look like such a message whatever lapin says. One happens to anybody.
const ENOUGH: u32 = 2;

/// Who takes a message away that cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The broker does, at the delivery limit of its queue: the sooner we are there, the sooner it is over.
    Broker,
    /// A person must, as dead letters have no limit: no hurry.
    Person,
}

/// What the last ends of a connection say about the messages on it.
#[derive(Debug, Default)]
pub(super) struct Caution {
    suspicion: u32,
}

impl Caution {
    /// An incarnation that lived this long has ended by itself; `unparsable` when lapin could not parse what came.
    pub fn note_end(&mut self, unparsable: bool, lived: Duration) {
        self.suspicion = match (unparsable, lived < QUICK) {
            (true, _) => ENOUGH,
            (false, true) => self.suspicion.saturating_add(1),
            (false, false) => 0,
        };
    }

    /// Whether the next incarnation should take one message at a time.
    pub fn is_due(&self) -> bool {
        self.suspicion >= ENOUGH
    }
}

/// Whether lapin could not parse what the broker sent.
pub(super) fn is_unparsable(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ParsingError(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::from_millis(5);

    fn after(ends: &[(bool, Duration)]) -> bool {
        let mut caution = Caution::default();
        ends.iter().for_each(|(unparsable, lived)| caution.note_end(*unparsable, *lived));
        caution.is_due()
    }

    #[test]
    fn what_cannot_be_parsed_makes_careful_at_once() {
        assert!(after(&[(true, AT_ONCE)]));
        assert!(after(&[(true, 2 * QUICK)]), "the bad message may come late");
    }

    #[test]
    fn quick_ends_make_careful_when_they_repeat() {
        assert!(!after(&[(false, AT_ONCE)]));
        assert!(after(&[(false, AT_ONCE), (false, AT_ONCE)]));
        assert!(!after(&[(false, AT_ONCE), (false, QUICK), (false, AT_ONCE)]));
    }

    #[test]
    fn caution_lasts_until_a_connection_has_lived() {
        assert!(after(&[(true, AT_ONCE), (false, AT_ONCE)]));
        assert!(!after(&[(true, AT_ONCE), (false, QUICK)]));
    }
}

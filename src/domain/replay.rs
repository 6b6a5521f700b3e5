//! What a replay decides without I/O: which dead letters may go out, and when a canary stops it.

mod canary;
mod refusal;

pub use canary::{Canary, Place, Tally};
pub use refusal::Refusal;

use super::protocol::Status;

/// Dead letters a second, unless the operator says otherwise: a person's mistake should cost minutes to make, not a second.
pub const DEFAULT_RATE_PER_SECOND: i32 = 20;

/// The state of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Dead letters are going out, or would if its command had not been killed.
    Running,
    /// An operator asked it to wait.
    Paused,
    /// It stopped by itself, and says why.
    Stopped,
    /// An operator ended it; what had not gone out is open again.
    Cancelled,
    /// Nothing is left to go out.
    Finished,
}

impl State {
    const ALL: &[Self] = &[Self::Running, Self::Paused, Self::Stopped, Self::Cancelled, Self::Finished];

    /// The spelling in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Cancelled => "cancelled",
            Self::Finished => "finished",
        }
    }

    /// Reads the spelling back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == word)
    }

    /// May it still publish, now or after a resume?
    pub const fn is_unfinished(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Stopped)
    }
}

/// What ledger and registry say about a dead letter when its epoch to go out has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// A delivery, or a whole event?
    pub subject: Subject,
    /// Is its app registered? A lane that no process attends would keep the message forever.
    pub app_known: bool,
    /// Past its time, and the operator did not say that this does not matter.
    pub expired: bool,
}

/// What is brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// One delivery, to go out with this epoch; its row in the ledger; and the epoch that the dead letter itself was given up at.
    Delivery { epoch: i32, row: Option<(Status, i32)>, dead_letter_epoch: Option<i32> },
    /// A whole event. Did the ledger know it when the set was fixed, does it now, and are the rules to be asked again?
    Event { had_rows: bool, has_rows: bool, re_resolve: bool },
}

/// What to do with a dead letter of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Publish,
    /// It is out already: we published it, and were killed before we could say so.
    IsOut,
    Refuse(Refusal),
}

/// Judges a dead letter whose body could be read.
pub fn judge(standing: &Standing) -> Verdict {
    let refused = match standing.subject {
        // Only our own message can have brought a dead row to this epoch.
        Subject::Delivery { epoch, row: Some((_, row_epoch)), .. } if row_epoch >= epoch => {
            return Verdict::IsOut;
        }
        Subject::Delivery { epoch, row, dead_letter_epoch } => {
            row.and_then(|(status, _)| finished_or_carried(status)).or_else(|| {
                dead_letter_epoch
                    .filter(|dead_letter_epoch| dead_letter_epoch + 1 < epoch)
                    .map(|_| Refusal::Superseded)
            })
        }
        Subject::Event { had_rows: false, has_rows: true, .. } => return Verdict::IsOut,
        Subject::Event { has_rows: true, re_resolve: false, .. } => Some(Refusal::HasRows),
        Subject::Event { .. } => None,
    };
    let refused = refused
        .or_else(|| (!standing.app_known).then_some(Refusal::UnknownApp))
        .or_else(|| standing.expired.then_some(Refusal::Expired));
    refused.map_or(Verdict::Publish, Verdict::Refuse)
}

fn finished_or_carried(status: Status) -> Option<Refusal> {
    match status {
        Status::Sent => Some(Refusal::AlreadySent),
        Status::Skipped => Some(Refusal::Skipped),
        Status::Planned | Status::Attempting | Status::Retrying => Some(Refusal::InProgress),
        Status::Dead => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dead letter given up at epoch 0, to go out with epoch 1.
    fn judged(row: Option<(Status, i32)>) -> Verdict {
        let subject = Subject::Delivery { epoch: 1, row, dead_letter_epoch: Some(0) };
        judge(&Standing { subject, app_known: true, expired: false })
    }

    fn of_event(had_rows: bool, has_rows: bool, re_resolve: bool) -> Verdict {
        let subject = Subject::Event { had_rows, has_rows, re_resolve };
        judge(&Standing { subject, app_known: true, expired: false })
    }

    #[test]
    fn a_dead_delivery_goes_out_and_nothing_else_does() {
        assert_eq!(judged(Some((Status::Dead, 0))), Verdict::Publish);
        assert_eq!(judged(None), Verdict::Publish, "a row that retention took is written again");
        assert_eq!(judged(Some((Status::Sent, 0))), Verdict::Refuse(Refusal::AlreadySent));
        assert_eq!(judged(Some((Status::Skipped, 0))), Verdict::Refuse(Refusal::Skipped));
        assert_eq!(judged(Some((Status::Retrying, 0))), Verdict::Refuse(Refusal::InProgress));
    }

    #[test]
    fn what_was_published_before_a_kill_is_out_whatever_came_of_it() {
        for status in Status::ALL {
            assert_eq!(judged(Some((*status, 1))), Verdict::IsOut);
            assert_eq!(judged(Some((*status, 4))), Verdict::IsOut);
        }
        assert_eq!(of_event(false, true, false), Verdict::IsOut);
    }

    #[test]
    fn an_older_dead_letter_gives_way_to_the_newer_one_of_its_delivery() {
        let subject =
            Subject::Delivery { epoch: 3, row: Some((Status::Dead, 2)), dead_letter_epoch: Some(0) };
        let standing = Standing { subject, app_known: true, expired: false };
        assert_eq!(judge(&standing), Verdict::Refuse(Refusal::Superseded));
    }

    #[test]
    fn an_event_with_rows_goes_only_where_the_rules_are_to_be_asked_again() {
        assert_eq!(of_event(false, false, false), Verdict::Publish);
        assert_eq!(of_event(true, true, false), Verdict::Refuse(Refusal::HasRows));
        assert_eq!(of_event(true, true, true), Verdict::Publish);
    }

    #[test]
    fn an_unknown_app_and_old_news_are_refused() {
        let subject = Subject::Event { had_rows: false, has_rows: false, re_resolve: false };
        let lost = Standing { subject, app_known: false, expired: false };
        assert_eq!(judge(&lost), Verdict::Refuse(Refusal::UnknownApp));
        let old = Standing { subject, app_known: true, expired: true };
        assert_eq!(judge(&old), Verdict::Refuse(Refusal::Expired));
    }
}

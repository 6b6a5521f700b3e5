//! The kinds of message that WeChat brings to a user for us, and all that they differ in.
//!
//! There is one so far. What is particular to a kind is data in a file of its own ([`subscribe`]); outside, only the
//! SQL of a big fan-out branches on the kind (`db::ledger::named`). A second kind is a variant here (the compiler names each arm), its file, its
//! SQL, and the event's word for it in `domain/event/`.

mod message;
mod subscribe;

use serde::Serialize;

use super::answer::{self, Class, ErrorCode, SendAnswer};
use super::consent::{Finding, User};
use super::outcome::SkipReason;
use super::protocol::OnUnknown;
pub use message::Message;

/// A kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// A mini program's subscribe message (订阅消息).
    Subscribe,
}

impl MessageKind {
    /// Every kind, in the order of the variants.
    pub const ALL: &[Self] = &[Self::Subscribe];

    /// Where its requests go, below `wechat.api_base`.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Subscribe => subscribe::PATH,
        }
    }

    /// The body of a request.
    pub fn body<'a>(self, message: &Message<'a>) -> impl Serialize + use<'a> {
        match self {
            Self::Subscribe => subscribe::Body::of(message),
        }
    }

    /// The codes that have a meaning of their own after a send of this kind, in rising order.
    pub const fn codes(self) -> &'static [ErrorCode] {
        match self {
            Self::Subscribe => subscribe::CODES,
        }
    }

    /// What an answer to a send means.
    pub fn classify(self, answer: &SendAnswer) -> Class {
        answer::classify_send(answer, self.codes())
    }

    /// What decides whether a user gets a message, and the reason to skip them where they do not. The first line that fits
    /// counts. Read here for one user; a test compares the SQL of a big fan-out with it.
    pub const fn verdicts(self) -> &'static [(Finding, Result<(), SkipReason>)] {
        match self {
            Self::Subscribe => subscribe::VERDICTS,
        }
    }

    /// May a message go out to this user? (`None`: no such user is bound.)
    pub fn verdict(self, user: Option<User>) -> Result<(), SkipReason> {
        let first = self.verdicts().iter().find(|(finding, _)| finding.fits(user));
        first.map_or(Err(SkipReason::NotSubscribed), |(_, verdict)| *verdict)
    }

    /// Does a message of this kind need the user's consent, and use it up?
    pub const fn needs_consent(self) -> bool {
        match self {
            Self::Subscribe => true,
        }
    }

    /// What to do where nobody can know whether a message went out; `wanted` is what the publisher or the operator asks for.
    pub const fn allowed_on_unknown(self, wanted: OnUnknown) -> OnUnknown {
        match self {
            // WeChat takes no id of ours with it, so a second request may be a second message.
            Self::Subscribe => wanted,
        }
    }
}

/// What is known about `errcode`, whatever kind of message it answers.
pub fn explain(errcode: i64) -> Option<&'static ErrorCode> {
    MessageKind::ALL.iter().find_map(|kind| answer::explain(errcode, kind.codes()))
}

/// What `errcode` means, whatever kind of message it answers.
pub fn class_of(errcode: i64) -> Class {
    explain(errcode).map_or_else(|| answer::class_of(errcode, &[]), |listed| listed.class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_can_be_searched() {
        for kind in MessageKind::ALL {
            assert!(kind.codes().is_sorted_by(|a, b| a.errcode < b.errcode), "{kind:?}");
        }
    }

    #[test]
    fn every_user_gets_a_verdict() {
        for kind in MessageKind::ALL {
            let last = kind.verdicts().last().map(|(finding, _)| *finding);
            assert_eq!(last, Some(Finding::Anything), "{kind:?}");
        }
    }

    #[test]
    fn all_kinds_are_listed_in_order() {
        for (position, kind) in MessageKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, position);
        }
    }
}

//! A dead letter: what was given up, why, and what makes two of them the same.

mod identity;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::delivery::{Delivery, DeliveryKey};
use super::event::Event;
use super::outcome::DeadReason;
use super::recipient::Recipient;
pub use identity::{after_replay, identity, identity_of_bytes, identity_of_event};

/// The facts of a dead letter. The message itself, body and headers as received, is kept beside them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// A second dead letter with the same identity is the same dead letter.
    pub identity: String,
    pub reason: Reason,
    /// The class of WeChat's last answer.
    pub class: Option<String>,
    /// WeChat's code.
    pub errcode: Option<i64>,
    /// WeChat's text where there is a class, else ours. For people; never a value from the body.
    pub errmsg: Option<String>,
    /// The field that is to blame.
    pub field: Option<String>,
    #[serde(flatten)]
    pub about: About,
    /// The delivery's epoch when it was given up; a replay goes out with the next one.
    pub epoch: Option<i32>,
    /// Requests charged.
    pub attempts: i32,
    /// When an attempt failed for the first time.
    pub first_failed_at: Option<Timestamp>,
    /// When it was given up.
    pub last_failed_at: Option<Timestamp>,
    /// Of the W3C `traceparent`.
    pub trace_id: Option<String>,
    /// WeChat's request id.
    pub rid: Option<String>,
    /// The generation of the token that the last request used.
    pub token_generation: Option<i64>,
}

impl DeadLetter {
    /// A dead letter that says no more than why.
    pub fn new(identity: String, reason: DeadReason, about: About) -> Self {
        Self {
            identity,
            reason: reason.into(),
            class: None,
            errcode: None,
            errmsg: None,
            field: None,
            about,
            epoch: None,
            attempts: 0,
            first_failed_at: None,
            last_failed_at: None,
            trace_id: None,
            rid: None,
            token_generation: None,
        }
    }

    /// The dead letter of one delivery.
    pub fn of_delivery(delivery: &Delivery, reason: DeadReason) -> Self {
        let Delivery { event, recipient, progress } = delivery;
        let about = About {
            recipient: Some(recipient.ledger_key()),
            openid: recipient.openid().map(|openid| openid.as_str().to_owned()),
            sys_user_id: recipient.sys_user_id().map(|user| user.as_str().to_owned()),
            ..About::event(event)
        };
        let identity = identity(&DeliveryKey::of(event, recipient), progress.epoch);
        let (epoch, first_failed_at) = (Some(progress.epoch), progress.first_failed);
        Self { epoch, first_failed_at, ..Self::new(identity, reason, about) }
    }

    /// Dead letters with the same fingerprint have the same cure.
    pub fn fingerprint(&self) -> String {
        // What could not be read says too little to be told apart: all of it is one group.
        if self.reason == DeadReason::Unreadable.into() {
            return identity::fingerprint([self.reason.as_str(), "", "", "", ""]);
        }
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let errcode = self.errcode.map(|code| code.to_string()).unwrap_or_default();
        let (app_id, template_id) = (text(&self.about.app_id), text(&self.about.template_id));
        identity::fingerprint([self.reason.as_str(), &app_id, &template_id, &errcode, &text(&self.field)])
    }
}

/// What a message is about, as far as it says. Nothing of it need be sound: it may be the reason why the message died.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct About {
    pub company_no: Option<String>,
    pub app_id: Option<String>,
    pub template_id: Option<String>,
    pub event_id: Option<String>,
    /// As in the ledger's key; `None` for an event as a whole.
    pub recipient: Option<String>,
    pub openid: Option<String>,
    pub sys_user_id: Option<String>,
}

impl About {
    /// About an event as a whole.
    pub fn event(event: &Event) -> Self {
        Self {
            company_no: Some(event.company_no.to_string()),
            app_id: Some(event.app_id.to_string()),
            template_id: Some(event.template_id.to_string()),
            event_id: Some(event.event_id.to_string()),
            ..Self::default()
        }
    }

    /// Whom it was for, where it names somebody.
    pub fn to_recipient(&self) -> Option<Recipient> {
        let sys_user_id = self.sys_user_id.as_deref().and_then(|id| id.parse().ok());
        match (self.openid.as_deref(), sys_user_id) {
            (Some(openid), sys_user_id) => {
                Some(Recipient::Bound { openid: openid.parse().ok()?, sys_user_id })
            }
            (None, Some(sys_user_id)) => Some(Recipient::Unbound { sys_user_id }),
            (None, None) => None,
        }
    }

    /// The ledger's key, where all parts of it are known. Without a recipient it names the event as a whole.
    pub fn key(&self) -> Option<DeliveryKey> {
        Some(DeliveryKey {
            company_no: self.company_no.clone()?,
            app_id: self.app_id.clone()?,
            template_id: self.template_id.clone()?,
            event_id: self.event_id.clone()?,
            recipient: self.recipient.clone().unwrap_or_default(),
        })
    }
}

/// Why a dead letter was given up, as the archive spells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reason {
    Known(DeadReason),
    /// A newer release wrote it.
    Newer(String),
}

impl Reason {
    /// Reads the spelling back.
    pub fn parse(word: &str) -> Self {
        DeadReason::parse(word).map_or_else(|| Self::Newer(word.to_owned()), Self::Known)
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(reason) => reason.as_str(),
            Self::Newer(word) => word,
        }
    }

    /// The reason, where this release knows it.
    pub fn known(&self) -> Option<DeadReason> {
        match self {
            Self::Known(reason) => Some(*reason),
            Self::Newer(_) => None,
        }
    }
}

impl From<DeadReason> for Reason {
    fn from(reason: DeadReason) -> Self {
        Self::Known(reason)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What has become of a dead letter. A dead letter that dies again after a replay is a dead letter of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing was done about it yet.
    Open,
    /// A replay has it in hand.
    Replaying,
    /// A replay brought it back, and its delivery came to an end.
    Replayed,
    /// An operator closed it, with a reason.
    Resolved,
    /// Its body and headers are permanently deleted; what it was about is left.
    Purged,
}

impl State {
    /// Every state, in the order of a dead letter's life.
    pub const ALL: &[Self] = &[Self::Open, Self::Replaying, Self::Replayed, Self::Resolved, Self::Purged];

    /// The one spelling, in the table, on the command line and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replaying => "replaying",
            Self::Replayed => "replayed",
            Self::Resolved => "resolved",
            Self::Purged => "purged",
        }
    }

    /// Reads the spelling back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == word)
    }
}

/// The classes of answers that can stand at the end of a delivery.
pub const CLASSES: &[&str] = &[
    "token",
    "app_fault",
    "quota",
    "throttled",
    "conflict",
    "transient",
    "unknown",
    "recipient",
    "content",
    "template",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::answer::COMMON_CODES;
    use crate::domain::message_kind::MessageKind;

    #[test]
    fn every_class_but_a_yes_can_be_asked_for() {
        let kinds = MessageKind::ALL.iter().flat_map(|kind| kind.codes());
        let words: BTreeSet<_> = kinds.chain(COMMON_CODES).map(|code| code.class.as_str()).collect();
        let asked: BTreeSet<_> = CLASSES.iter().copied().chain(["sent"]).collect();
        assert!(words.is_subset(&asked), "{words:?}");
    }

    #[test]
    fn a_state_reads_back() {
        assert!(State::ALL.iter().all(|state| State::parse(state.as_str()) == Some(*state)));
        assert_eq!(State::parse("lost"), None);
    }

    #[test]
    fn a_reason_that_only_a_newer_release_knows_keeps_its_word() {
        assert_eq!(Reason::parse("content").known(), Some(DeadReason::Content));
        let newer = Reason::parse("too_funny");
        assert_eq!((newer.as_str(), newer.known()), ("too_funny", None));
    }

    fn about(template_id: &str) -> About {
        About {
            app_id: Some("wx1".to_owned()),
            template_id: Some(template_id.to_owned()),
            ..About::default()
        }
    }

    #[test]
    fn the_same_cause_has_the_same_fingerprint() {
        let of = |field: &str| {
            let dead_letter = DeadLetter::new("a".to_owned(), DeadReason::Content, about("T1"));
            let field = Some(field.to_owned());
            DeadLetter { errcode: Some(47003), field, ..dead_letter }.fingerprint()
        };
        assert_eq!(of("thing2"), of("thing2"));
        assert_ne!(of("thing2"), of("thing3"));
    }

    #[test]
    fn what_cannot_be_read_is_one_group() {
        let of =
            |template: &str, reason| DeadLetter::new("a".to_owned(), reason, about(template)).fingerprint();
        assert_eq!(of("T1", DeadReason::Unreadable), of("T2", DeadReason::Unreadable));
        assert_ne!(of("T1", DeadReason::Malformed), of("T2", DeadReason::Malformed));
    }
}

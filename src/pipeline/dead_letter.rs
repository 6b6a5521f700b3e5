//! What a dead letter says beside the message itself, in headers of ours.

use jiff::Timestamp;
use uuid::Uuid;

use crate::amqp::{Message, own};
use crate::clock;
use crate::domain::answer::Class;
use crate::domain::dead_letter;
use crate::domain::delivery::Delivery;
use crate::domain::outcome::{AnswerFacts, DeadReason};

/// Why something is given up.
pub(super) struct DeadLetter {
    /// Its identity: archiving is idempotent by it.
    id: String,
    pub(super) reason: DeadReason,
    pub(super) history: History,
    /// One sentence for people; never a value from the body.
    pub(super) detail: Option<String>,
}

/// What a delivery went through before it was given up; nothing, for a message that never became one.
#[derive(Default)]
pub(super) struct History {
    pub(super) facts: AnswerFacts,
    /// What the last answer meant.
    pub(super) class: Option<Class>,
    pub(super) token_generation: Option<i64>,
    /// Requests charged.
    pub(super) attempts: i32,
    /// When an attempt failed for the first time, if one did before the last.
    pub(super) first_failed: Option<Timestamp>,
}

impl DeadLetter {
    /// Of a message that is no event. Nothing in it can be trusted to name it; two of them are two dead letters.
    pub(super) fn of_message(reason: DeadReason, field: Option<&str>, problem: &str) -> Self {
        let facts = AnswerFacts { field: field.map(str::to_owned), ..AnswerFacts::default() };
        Self {
            id: Uuid::new_v4().simple().to_string(),
            reason,
            history: History { facts, ..History::default() },
            detail: Some(problem.to_owned()),
        }
    }

    /// Of a whole event, by the id that its envelope gives it.
    pub(super) fn of_event(id: String, reason: DeadReason) -> Self {
        Self { id, reason, history: History::default(), detail: None }
    }

    /// Of one delivery.
    pub(super) fn of_delivery(delivery: &Delivery, reason: DeadReason, history: History) -> Self {
        let id = dead_letter::of_delivery(&delivery.event, &delivery.recipient, delivery.progress.epoch);
        Self { id, reason, history, detail: None }
    }

    /// With one sentence for people.
    pub(super) fn with_detail(self, detail: impl ToString) -> Self {
        Self { detail: Some(detail.to_string()), ..self }
    }

    /// Writes it onto the message.
    pub(super) fn stamp(&self, mut message: Message) -> Message {
        let headers = &mut message.headers;
        headers.set(own::DEAD_LETTER, self.id.as_str());
        headers.set(own::REASON, self.reason.as_str());
        headers.set(own::DIED_AT, clock::now().as_millisecond());
        let History { facts, class, token_generation, attempts, first_failed } = &self.history;
        headers.set(own::ATTEMPTS, i64::from(*attempts));
        let numbers = [
            (own::ERRCODE, facts.errcode),
            (own::TOKEN_GENERATION, *token_generation),
            (own::FIRST_FAILED, first_failed.map(Timestamp::as_millisecond)),
        ];
        for (name, number) in numbers.into_iter().filter_map(|(name, number)| Some((name, number?))) {
            headers.set(name, number);
        }
        let texts = [
            (own::CLASS, class.map(Class::as_str)),
            (own::ERRMSG, facts.errmsg.as_deref()),
            (own::RID, facts.rid.as_deref()),
            (own::FIELD, facts.field.as_deref()),
            (own::DETAIL, self.detail.as_deref()),
        ];
        for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text?))) {
            headers.set(name, text);
        }
        message
    }
}

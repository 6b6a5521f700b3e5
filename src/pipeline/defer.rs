//! Publishing onward: delivery messages to the ladder, dead letters to the dead. Confirmed before anything is recorded or acked.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::envelope::Envelope;
use super::{Left, Pipeline};
use crate::amqp::{Message, Route, own};
use crate::clock;
use crate::db;
use crate::domain::answer::Class;
use crate::domain::dead_letter;
use crate::domain::delivery::{Delivery, Progress};
use crate::domain::event::Event;
use crate::domain::outcome::{AnswerFacts, DeadReason};
use crate::domain::recipient::Recipient;
use crate::metrics::EventResult;

/// What a dead letter says beside the message itself.
pub(super) struct DeadLetter {
    pub(super) dead_letter: String,
    pub(super) reason: DeadReason,
    pub(super) life: Life,
    /// One sentence for people; never a value from the body.
    pub(super) detail: Option<String>,
}

/// What a delivery went through before it was given up; nothing, for a message that never became one.
#[derive(Default)]
pub(super) struct Life {
    pub(super) facts: AnswerFacts,
    /// What the last answer meant.
    pub(super) class: Option<Class>,
    pub(super) token_generation: Option<i64>,
    /// Requests charged.
    pub(super) attempts: i32,
    /// When an attempt failed for the first time, if one did before the last.
    pub(super) first_failed: Option<Timestamp>,
}

impl Pipeline {
    /// Defers the message as it is: same epoch, same step, uncharged. Its way back takes about `wait`.
    pub(super) async fn defer_unchanged(
        &self,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
        wait: Duration,
    ) -> Result<(), Left> {
        let delay = self.settings.ladder.towards(wait);
        self.publish_delivery_message(delivery, envelope, delivery.progress, delay).await
    }

    /// Hands a whole event on as it is, to come back in about `wait`. The way for an event for many: one message, whatever
    /// is still to be done of it stands in the ledger.
    pub(super) async fn defer_event(&self, envelope: &Arc<Envelope>, wait: Duration) -> Result<(), Left> {
        let route = Route::queue(self.topology.retry(self.settings.ladder.towards(wait)));
        self.publish(route, envelope.event_again()).await?;
        self.metrics.event(EventResult::Deferred);
        Ok(())
    }

    /// Publishes a delivery message to the ladder's step of this delay.
    pub(super) async fn publish_delivery_message(
        &self,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
        progress: Progress,
        delay: Duration,
    ) -> Result<(), Left> {
        let message = envelope.delivery_message(delivery, progress);
        self.publish(Route::queue(self.topology.retry(delay)), message).await
    }

    /// Publishes the dead letter of one delivery, self-contained: event and recipient.
    pub(super) async fn publish_dead_letter(
        &self,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
        dead_letter: &DeadLetter,
    ) -> Result<(), Left> {
        let message = envelope.delivery_message(delivery, delivery.progress);
        self.publish(Route::exchange(self.topology.dead(), ""), with_dead_letter(message, dead_letter)).await
    }

    /// A whole message that cannot be worked on becomes a dead letter, body and headers as received.
    pub(super) async fn dead_letter(
        &self,
        envelope: &Arc<Envelope>,
        reason: DeadReason,
        field: Option<&str>,
        problem: &str,
    ) -> Result<(), Left> {
        self.dead_letters.of_message(envelope, reason, field, problem);
        let dead_letter = DeadLetter {
            // Nothing in it can be trusted to name it; two of them are two letters.
            dead_letter: Uuid::new_v4().simple().to_string(),
            reason,
            life: Life {
                facts: AnswerFacts { field: field.map(str::to_owned), ..AnswerFacts::default() },
                ..Life::default()
            },
            detail: Some(problem.to_owned()),
        };
        self.publish_as_received(envelope, &dead_letter).await
    }

    /// An event that is sound, but cannot be planned.
    pub(super) async fn dead_letter_event(
        &self,
        event: &Event,
        envelope: &Arc<Envelope>,
        reason: DeadReason,
    ) -> Result<(), Left> {
        self.dead_letters.of_event(event, envelope, reason);
        let dead_letter = DeadLetter {
            dead_letter: envelope.dead_letter_of_event(event),
            reason,
            life: Life::default(),
            detail: None,
        };
        self.publish_as_received(envelope, &dead_letter).await
    }

    /// PostgreSQL refuses a value of the event, and would refuse it again.
    pub(super) async fn dead_letter_refused_event(
        &self,
        event: &Event,
        envelope: &Arc<Envelope>,
        error: &db::Error,
    ) -> Result<(), Left> {
        self.metrics.event(EventResult::Dead);
        self.dead_letters.of_message(envelope, DeadReason::Malformed, None, &error.to_string());
        let dead_letter = refused(envelope.dead_letter_of_event(event), error);
        self.publish_as_received(envelope, &dead_letter).await
    }

    /// The same for one delivery: the others of its event are not concerned.
    pub(super) async fn dead_letter_refused(
        &self,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
        error: &db::Error,
    ) -> Result<(), Left> {
        if matches!(delivery.recipient, Recipient::Nobody) {
            return self.dead_letter_refused_event(&delivery.event, envelope, error).await;
        }
        let dead_letter = refused(dead_letter_of(delivery), error);
        self.dead_letters.of_delivery(delivery, envelope, &dead_letter);
        self.publish_dead_letter(delivery, envelope, &dead_letter).await
    }

    /// Our own code panicked over one delivery. The panic hook has logged it; a dead letter cannot kill again.
    pub(super) async fn dead_letter_panicked(
        &self,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
    ) -> Result<(), Left> {
        if matches!(delivery.recipient, Recipient::Nobody) {
            return self.dead_letter(envelope, DeadReason::Panicked, None, "our own code panicked").await;
        }
        let dead_letter = DeadLetter {
            dead_letter: dead_letter_of(delivery),
            reason: DeadReason::Panicked,
            life: Life::default(),
            detail: Some("our own code panicked".to_owned()),
        };
        self.publish_dead_letter(delivery, envelope, &dead_letter).await
    }

    async fn publish_as_received(
        &self,
        envelope: &Arc<Envelope>,
        dead_letter: &DeadLetter,
    ) -> Result<(), Left> {
        let message = with_dead_letter(envelope.message.clone(), dead_letter);
        self.publish(Route::exchange(self.topology.dead(), ""), message).await
    }

    /// Publishes until confirmed. While the broker is away or full this waits, with the incoming unacked.
    pub(super) async fn publish(&self, route: Route, message: Message) -> Result<(), Left> {
        // Boxed, as it is rare: room for it in every future that might have to publish would be copied with each message.
        Box::pin(self.publisher.publish_until_confirmed(&route, &message, &self.stops.hard))
            .await
            .map_err(|_stopped| Left::Midway)
    }
}

fn refused(dead_letter: String, error: &db::Error) -> DeadLetter {
    let detail = Some(error.to_string());
    DeadLetter { dead_letter, reason: DeadReason::Malformed, life: Life::default(), detail }
}

fn dead_letter_of(delivery: &Delivery) -> String {
    dead_letter::of_delivery(&delivery.event, &delivery.recipient, delivery.progress.epoch)
}

fn with_dead_letter(mut message: Message, dead_letter: &DeadLetter) -> Message {
    let headers = &mut message.headers;
    headers.set(own::DEAD_LETTER, dead_letter.dead_letter.as_str());
    headers.set(own::REASON, dead_letter.reason.as_str());
    headers.set(own::DIED_AT, clock::now().as_millisecond());
    let Life { facts, class, token_generation, attempts, first_failed } = &dead_letter.life;
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
        (own::DETAIL, dead_letter.detail.as_deref()),
    ];
    for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text?))) {
        headers.set(name, text);
    }
    message
}

//! Publishing onward: carriers to the ladder, letters to the dead. Confirmed before anything is recorded or acked.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::origin::Origin;
use super::{Left, Pipeline};
use crate::amqp::{Message, Route, own};
use crate::clock;
use crate::db;
use crate::domain::answer::Class;
use crate::domain::delivery::{Delivery, Progress};
use crate::domain::event::Event;
use crate::domain::letter;
use crate::domain::outcome::{AnswerFacts, DeadReason};
use crate::domain::recipient::Recipient;
use crate::metrics::EventResult;

/// What a letter says beside the message itself.
pub(super) struct Obituary {
    pub(super) letter: String,
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
    /// Hands the message on as it is: same turn, same step, uncharged. Its way back takes about `wait`.
    pub(super) async fn hand_on_unchanged(
        &self,
        delivery: &Delivery,
        origin: &Arc<Origin>,
        wait: Duration,
    ) -> Result<(), Left> {
        let delay = self.settings.ladder.towards(wait);
        self.publish_carrier(delivery, origin, delivery.progress, delay).await
    }

    /// Hands a whole event on as it is, to come back in about `wait`. The way for an event for many: one message, whatever
    /// is still to be done of it stands in the ledger.
    pub(super) async fn hand_on_event(&self, origin: &Arc<Origin>, wait: Duration) -> Result<(), Left> {
        let route = Route::queue(self.topology.retry(self.settings.ladder.towards(wait)));
        self.publish(route, origin.event_again()).await?;
        self.metrics.event(EventResult::HandedOn);
        Ok(())
    }

    /// Publishes a carrier to the ladder's step of this delay.
    pub(super) async fn publish_carrier(
        &self,
        delivery: &Delivery,
        origin: &Arc<Origin>,
        progress: Progress,
        delay: Duration,
    ) -> Result<(), Left> {
        let message = origin.carrier(delivery, progress);
        self.publish(Route::queue(self.topology.retry(delay)), message).await
    }

    /// Publishes the letter of one delivery, self-contained: event and recipient.
    pub(super) async fn publish_letter(
        &self,
        delivery: &Delivery,
        origin: &Arc<Origin>,
        obituary: &Obituary,
    ) -> Result<(), Left> {
        let message = origin.carrier(delivery, delivery.progress);
        self.publish(Route::exchange(self.topology.dead(), ""), with_obituary(message, obituary)).await
    }

    /// A whole message that cannot be worked on becomes a letter, body and headers as received.
    pub(super) async fn bury(
        &self,
        origin: &Arc<Origin>,
        reason: DeadReason,
        field: Option<&str>,
        problem: &str,
    ) -> Result<(), Left> {
        self.dead_letters.of_message(origin, reason, field, problem);
        let obituary = Obituary {
            // Nothing in it can be trusted to name it; two of them are two letters.
            letter: Uuid::new_v4().simple().to_string(),
            reason,
            life: Life {
                facts: AnswerFacts { field: field.map(str::to_owned), ..AnswerFacts::default() },
                ..Life::default()
            },
            detail: Some(problem.to_owned()),
        };
        self.publish_as_received(origin, &obituary).await
    }

    /// An event that is sound, but cannot be planned.
    pub(super) async fn bury_event(
        &self,
        event: &Event,
        origin: &Arc<Origin>,
        reason: DeadReason,
    ) -> Result<(), Left> {
        self.dead_letters.of_event(event, origin, reason);
        let obituary =
            Obituary { letter: origin.letter_of_event(event), reason, life: Life::default(), detail: None };
        self.publish_as_received(origin, &obituary).await
    }

    /// PostgreSQL refuses a value of the event, and would refuse it again.
    pub(super) async fn bury_refused_event(
        &self,
        event: &Event,
        origin: &Arc<Origin>,
        error: &db::Error,
    ) -> Result<(), Left> {
        self.metrics.event(EventResult::Dead);
        self.dead_letters.of_message(origin, DeadReason::Malformed, None, &error.to_string());
        let obituary = refused(origin.letter_of_event(event), error);
        self.publish_as_received(origin, &obituary).await
    }

    /// The same for one delivery: the others of its event are not concerned.
    pub(super) async fn bury_refused(
        &self,
        delivery: &Delivery,
        origin: &Arc<Origin>,
        error: &db::Error,
    ) -> Result<(), Left> {
        if matches!(delivery.recipient, Recipient::Nobody) {
            return self.bury_refused_event(&delivery.event, origin, error).await;
        }
        let obituary = refused(letter_of(delivery), error);
        self.dead_letters.of_delivery(delivery, origin, &obituary);
        self.publish_letter(delivery, origin, &obituary).await
    }

    /// Our own code panicked over one delivery. The panic hook has logged it; a dead letter cannot kill again.
    pub(super) async fn bury_panicked(&self, delivery: &Delivery, origin: &Arc<Origin>) -> Result<(), Left> {
        if matches!(delivery.recipient, Recipient::Nobody) {
            return self.bury(origin, DeadReason::Panicked, None, "our own code panicked").await;
        }
        let obituary = Obituary {
            letter: letter_of(delivery),
            reason: DeadReason::Panicked,
            life: Life::default(),
            detail: Some("our own code panicked".to_owned()),
        };
        self.publish_letter(delivery, origin, &obituary).await
    }

    async fn publish_as_received(&self, origin: &Arc<Origin>, obituary: &Obituary) -> Result<(), Left> {
        let message = with_obituary(origin.message.clone(), obituary);
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

fn refused(letter: String, error: &db::Error) -> Obituary {
    let detail = Some(error.to_string());
    Obituary { letter, reason: DeadReason::Malformed, life: Life::default(), detail }
}

fn letter_of(delivery: &Delivery) -> String {
    letter::of_delivery(&delivery.event, &delivery.recipient, delivery.progress.turn)
}

fn with_obituary(mut message: Message, obituary: &Obituary) -> Message {
    let headers = &mut message.headers;
    headers.set(own::LETTER, obituary.letter.as_str());
    headers.set(own::REASON, obituary.reason.as_str());
    headers.set(own::DIED_AT, clock::now().as_millisecond());
    let Life { facts, class, token_generation, attempts, first_failed } = &obituary.life;
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
        (own::DETAIL, obituary.detail.as_deref()),
    ];
    for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text?))) {
        headers.set(name, text);
    }
    message
}

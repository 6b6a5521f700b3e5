//! Giving up: what can never go on becomes a dead letter, in the dead queue and in the log.

use std::sync::Arc;
use std::thread;
use uuid::Uuid;

use super::dead_letter_log::DeadLetterLog;
use super::envelope::Envelope;
use super::job::{Disposition, Job};
use super::publish::OnwardPublisher;
use crate::amqp::{self, Message};
use crate::clock;
use crate::db;
use crate::domain::dead_letter::{About, DeadLetter};
use crate::domain::event::{Event, Malformed};
use crate::domain::outcome::DeadReason;
use crate::domain::recipient::Recipient;
use crate::metrics::{EventResult, Metrics};

/// What people read of a panic; the panic hook has logged the rest.
const PANICKED: &str = "our own code panicked";

/// Publishes dead letters. Cheap to clone.
#[derive(Clone)]
pub(super) struct DeadLetterer {
    pub(super) publisher: OnwardPublisher,
    pub(super) log: DeadLetterLog,
    pub(super) metrics: Arc<Metrics>,
}

impl DeadLetterer {
    /// A whole message that cannot be worked on, body and headers as received.
    pub(super) async fn message(
        &self,
        envelope: &Envelope,
        reason: DeadReason,
        field: Option<&str>,
        problem: &str,
    ) -> Disposition {
        self.log.of_message(envelope, reason, field, problem);
        // Nothing in it can be trusted to name it; two of them are two dead letters.
        let identity = Uuid::new_v4().simple().to_string();
        let dead_letter = DeadLetter {
            field: field.map(str::to_owned),
            errmsg: Some(problem.to_owned()),
            ..DeadLetter::new(identity, reason, About::default())
        };
        self.as_received(envelope, &dead_letter).await
    }

    /// A message that says something, but nothing that we can read.
    pub(super) async fn malformed(&self, envelope: &Envelope, malformed: &Malformed) -> Disposition {
        self.metrics.event(EventResult::Dead);
        let field = malformed.field.as_deref();
        self.message(envelope, DeadReason::Malformed, field, &malformed.to_string()).await
    }

    /// A message over which our own code panicked: it cannot kill again.
    pub(super) async fn panicked(&self, envelope: &Envelope) -> Disposition {
        self.message(envelope, DeadReason::Panicked, None, PANICKED).await
    }

    /// An event that is sound, but cannot be planned.
    pub(super) async fn event(&self, event: &Event, envelope: &Envelope, reason: DeadReason) -> Disposition {
        self.log.of_event(event, envelope, reason);
        self.as_received(envelope, &of_event(event, envelope, reason)).await
    }

    /// PostgreSQL refuses a value of the event, and would refuse it again.
    pub(super) async fn refused_event(
        &self,
        event: &Event,
        envelope: &Envelope,
        error: &db::Error,
    ) -> Disposition {
        self.metrics.event(EventResult::Dead);
        self.log.of_message(envelope, DeadReason::Malformed, None, &error.to_string());
        let dead_letter = of_event(event, envelope, DeadReason::Malformed);
        self.as_received(envelope, &DeadLetter { errmsg: Some(error.to_string()), ..dead_letter }).await
    }

    /// The same for one delivery: the others of its event are not concerned.
    pub(super) async fn refused(&self, job: &Job, error: &db::Error) -> Disposition {
        if matches!(job.delivery.recipient, Recipient::Nobody) {
            return self.refused_event(&job.delivery.event, &job.envelope, error).await;
        }
        let dead_letter = DeadLetter {
            errmsg: Some(error.to_string()),
            ..DeadLetter::of_delivery(&job.delivery, DeadReason::Malformed)
        };
        self.log.of_delivery(job, &dead_letter);
        self.publish(job, &dead_letter).await
    }

    /// One delivery that was claimed and came to this end. Logged once it is published.
    pub(super) async fn delivery(&self, job: &Job, dead_letter: &DeadLetter) -> Disposition {
        self.publish(job, dead_letter).await?;
        self.log.of_delivery(job, dead_letter);
        Ok(())
    }

    /// How the work on one delivery ended. A panic makes a dead letter of this delivery and leaves the others of its event alone.
    pub(super) async fn if_it_panicked(&self, job: &Job, ended: thread::Result<Disposition>) -> Disposition {
        match ended {
            Ok(disposition) => disposition,
            // Boxed, as it is rare: room for it would be copied with each delivery.
            Err(_panic) => Box::pin(self.panicked_delivery(job)).await,
        }
    }

    async fn panicked_delivery(&self, job: &Job) -> Disposition {
        if matches!(job.delivery.recipient, Recipient::Nobody) {
            return self.panicked(&job.envelope).await;
        }
        let dead_letter = DeadLetter {
            errmsg: Some(PANICKED.to_owned()),
            ..DeadLetter::of_delivery(&job.delivery, DeadReason::Panicked)
        };
        self.publish(job, &dead_letter).await
    }

    /// Self-contained: event and recipient.
    async fn publish(&self, job: &Job, dead_letter: &DeadLetter) -> Disposition {
        let message = job.envelope.delivery_message(&job.delivery, job.delivery.progress);
        self.publisher.to_dead_letters(stamped(message, dead_letter)).await
    }

    async fn as_received(&self, envelope: &Envelope, dead_letter: &DeadLetter) -> Disposition {
        self.publisher.to_dead_letters(stamped(envelope.message.clone(), dead_letter)).await
    }
}

fn of_event(event: &Event, envelope: &Envelope, reason: DeadReason) -> DeadLetter {
    DeadLetter::new(envelope.dead_letter_of_event(event), reason, About::event(event))
}

/// The message with the dead letter's facts in its headers.
fn stamped(mut message: Message, dead_letter: &DeadLetter) -> Message {
    let dead_letter = DeadLetter { last_failed_at: Some(clock::now()), ..dead_letter.clone() };
    amqp::dead_letter::write(&dead_letter, &mut message.headers);
    message
}

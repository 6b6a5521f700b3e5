//! Where messages come in, and where they are acked.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;

use super::envelope::{self, Envelope};
use super::slots::Rank;
use super::{Left, Pipeline};
use crate::amqp::{Incoming, Subscription};
use crate::clock;
use crate::domain::delivery::Delivery;
use crate::domain::delivery_message;
use crate::domain::event::{Arrival, Event, Malformed};
use crate::domain::outcome::DeadReason;
use crate::failpoint::crash_point;
use crate::metrics::EventResult;

/// Takes in messages and gives each a task of its own.
pub struct Intake {
    pipeline: Arc<Pipeline>,
    source: Source,
}

/// Who fills a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Publishers, through the exchange of events. Headers of ours on their messages are none of ours.
    Publishers,
    /// Ourselves: publishers' permissions do not reach these queues.
    Ourselves,
}

impl Intake {
    /// An intake for one process and one queue.
    pub fn new(pipeline: Arc<Pipeline>, source: Source) -> Self {
        Self { pipeline, source }
    }

    /// Feeds from one queue until the soft stop. The subscription's prefetch bounds the tasks.
    pub async fn feed(&self, mut subscription: Subscription, beat: impl Fn()) {
        let soft = self.pipeline.stops.soft.clone();
        loop {
            beat();
            let next = tokio::select! {
                biased;
                () = soft.cancelled() => break,
                next = tokio::time::timeout(super::ready::BEAT_EVERY, subscription.next()) => next,
            };
            match next {
                Ok(Some(mut incoming)) => {
                    if self.source == Source::Publishers {
                        envelope::disown(&mut incoming.message);
                    }
                    let task = take_in(Arc::clone(&self.pipeline), incoming, Rank::Fresh);
                    self.pipeline.tasks.spawn(task);
                }
                Ok(None) => break,
                Err(_nothing_came) => {}
            }
        }
        subscription.cancel().await;
    }

    /// Waits until everything taken in has ended. The caller bounds it.
    pub async fn drain(&self) {
        self.pipeline.tasks.close();
        self.pipeline.tasks.wait().await;
        self.pipeline.put_quotas_back().await;
        self.pipeline.dead_letters.finish();
    }
}

/// One incoming, from its arrival to its ack.
pub(super) async fn take_in(pipeline: Arc<Pipeline>, incoming: Incoming, rank: Rank) {
    let Incoming { message, routing_key, ack_handle, redelivered, .. } = incoming;
    let _in_hand = (pipeline.metrics.incoming(), pipeline.progress.take());
    let envelope = Arc::new(Envelope::of(message, routing_key, rank, clock::now()));
    crash_point("received");
    let worked = AssertUnwindSafe(pipeline.work(&envelope, redelivered)).catch_unwind();
    // The work first: a look at the stop takes a lock that all messages share.
    let ended = tokio::select! {
        biased;
        ended = worked => ended,
        () = pipeline.stops.hard.cancelled() => Ok(Err(Left::Midway)),
    };
    let ended = match ended {
        Ok(ended) => ended,
        // The panic hook has logged it. The message becomes a dead letter, so that it cannot kill again.
        Err(_panic) => {
            pipeline.dead_letter(&envelope, DeadReason::Panicked, None, "our own code panicked").await
        }
    };
    crash_point("before_ack");
    match ended {
        Ok(()) => ack_handle.ack(),
        Err(Left::Unstarted) => ack_handle.give_back(),
        Err(Left::Midway) => drop(ack_handle),
    }
}

impl Pipeline {
    /// The whole work on one message: afterwards it may be acked.
    async fn work(self: &Arc<Self>, envelope: &Arc<Envelope>, redelivered: bool) -> Result<(), Left> {
        let size = envelope.message.body.len();
        if size > self.settings.max_body_bytes {
            let problem = format!("{size} bytes; amqp.max_body is {}", self.settings.max_body_bytes);
            return self.dead_letter(envelope, DeadReason::Oversized, None, &problem).await;
        }
        if !envelope.message.damaged.is_empty() {
            let malformed = Malformed::not_utf8(&envelope.message.damaged);
            return self.bury_malformed(envelope, &malformed).await;
        }
        self.database_good().await?;
        if envelope.is_delivery_message {
            return match self.read_delivery_message(envelope) {
                Ok(delivery) => Box::pin(self.bring_delivery_message(delivery, envelope)).await,
                Err(malformed) => self.bury_malformed(envelope, &malformed).await,
            };
        }
        match self.read_event(envelope) {
            Ok(event) => self.spread(Arc::new(event), envelope, redelivered).await,
            Err(malformed) => self.bury_malformed(envelope, &malformed).await,
        }
    }

    /// Consumption pauses while PostgreSQL does not do its work: what has not begun stays unacked, and the prefetch bounds how
    /// much that is.
    async fn database_good(&self) -> Result<(), Left> {
        if self.db.health().delivers() {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = self.stops.soft.cancelled() => Err(Left::Unstarted),
            () = self.db.health().until_it_delivers() => Ok(()),
        }
    }

    fn read_event(&self, envelope: &Envelope) -> Result<Event, Malformed> {
        Event::decode(&envelope.message.body, &self.arrival(envelope))
    }

    fn read_delivery_message(&self, envelope: &Envelope) -> Result<Delivery, Malformed> {
        let (event, recipient) = delivery_message::decode(&envelope.message.body)?;
        Ok(Delivery { event: Arc::new(event), recipient, progress: envelope.progress })
    }

    fn arrival<'a>(&self, envelope: &'a Envelope) -> Arrival<'a> {
        Arrival {
            message_id: envelope.message.message_id.as_deref(),
            timestamp: envelope.published_at(),
            first_seen: envelope.first_seen,
            default_ttl: self.settings.default_ttl,
        }
    }

    async fn bury_malformed(&self, envelope: &Arc<Envelope>, malformed: &Malformed) -> Result<(), Left> {
        self.metrics.event(EventResult::Dead);
        self.dead_letter(envelope, DeadReason::Malformed, malformed.field.as_deref(), &malformed.to_string())
            .await
    }
}

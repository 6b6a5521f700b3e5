//! Where messages come in, and where they are acked.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;

use super::origin::{self, Origin};
use super::slots::Rank;
use super::{Left, Pipeline};
use crate::amqp::{Incoming, Subscription};
use crate::clock;
use crate::domain::carrier;
use crate::domain::delivery::Delivery;
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
                        origin::disown(&mut incoming.message);
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
    let Incoming { message, routing_key, receipt, redelivered, .. } = incoming;
    let _in_hand = (pipeline.metrics.incoming(), pipeline.progress.take());
    let origin = Arc::new(Origin::of(message, routing_key, rank, clock::now()));
    crash_point("received");
    let worked = AssertUnwindSafe(pipeline.work(&origin, redelivered)).catch_unwind();
    // The work first: a look at the stop takes a lock that all messages share.
    let ended = tokio::select! {
        biased;
        ended = worked => ended,
        () = pipeline.stops.hard.cancelled() => Ok(Err(Left::Midway)),
    };
    let ended = match ended {
        Ok(ended) => ended,
        // The panic hook has logged it. The message becomes a letter, so that it cannot kill again.
        Err(_panic) => pipeline.bury(&origin, DeadReason::Panicked, None, "our own code panicked").await,
    };
    crash_point("before_ack");
    match ended {
        Ok(()) => receipt.ack(),
        Err(Left::Unstarted) => receipt.give_back(),
        Err(Left::Midway) => drop(receipt),
    }
}

impl Pipeline {
    /// The whole work on one message: afterwards it may be acked.
    async fn work(self: &Arc<Self>, origin: &Arc<Origin>, redelivered: bool) -> Result<(), Left> {
        let size = origin.message.body.len();
        if size > self.settings.max_body_bytes {
            let problem =
                format!("{size} bytes, allowed are {} (amqp.max_body)", self.settings.max_body_bytes);
            return self.bury(origin, DeadReason::Oversized, None, &problem).await;
        }
        if !origin.message.damaged.is_empty() {
            let malformed = Malformed::not_utf8(&origin.message.damaged);
            return self.bury_malformed(origin, &malformed).await;
        }
        self.database_good().await?;
        if origin.is_carrier {
            return match self.read_carrier(origin) {
                Ok(delivery) => Box::pin(self.bring_carrier(delivery, origin)).await,
                Err(malformed) => self.bury_malformed(origin, &malformed).await,
            };
        }
        match self.read_event(origin) {
            Ok(event) => self.spread(Arc::new(event), origin, redelivered).await,
            Err(malformed) => self.bury_malformed(origin, &malformed).await,
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

    fn read_event(&self, origin: &Origin) -> Result<Event, Malformed> {
        Event::decode(&origin.message.body, &self.arrival(origin))
    }

    fn read_carrier(&self, origin: &Origin) -> Result<Delivery, Malformed> {
        let (event, recipient) = carrier::decode(&origin.message.body)?;
        Ok(Delivery { event: Arc::new(event), recipient, progress: origin.progress })
    }

    fn arrival<'a>(&self, origin: &'a Origin) -> Arrival<'a> {
        Arrival {
            message_id: origin.message.message_id.as_deref(),
            timestamp: origin.published_at(),
            first_seen: origin.first_seen,
            default_ttl: self.settings.default_ttl,
        }
    }

    async fn bury_malformed(&self, origin: &Arc<Origin>, malformed: &Malformed) -> Result<(), Left> {
        self.metrics.event(EventResult::Dead);
        self.bury(origin, DeadReason::Malformed, malformed.field.as_deref(), &malformed.to_string()).await
    }
}

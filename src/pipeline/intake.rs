//! Where messages come in, what is done with each, and where they are acked.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::app_runtime::AppRuntime;
use super::apps::{Apps, ResolvedApp};
use super::dead_letterer::DeadLetterer;
use super::defer::Deferrer;
use super::envelope::{self, Envelope};
use super::fan_out::{FanOut, Spreading};
use super::job::{Disposition, Job, Unsettled};
use super::plan::Planner;
use super::process::Processor;
use crate::admission::Rank;
use crate::amqp::{Incoming, Subscription};
use crate::clock;
use crate::db::Database;
use crate::domain::delivery::Delivery;
use crate::domain::delivery_message;
use crate::domain::event::{Arrival, Event, Malformed};
use crate::domain::outcome::DeadReason;
use crate::domain::plan::Spread;
use crate::failpoint::crash_point;
use crate::health::StallDetector;
use crate::metrics::{EventResult, Metrics};

/// How often an idle loop shows that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// Who fills a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Publishers, through the exchange of events. Headers `x-wn-…` on their messages are dropped.
    Publishers,
    /// Ourselves: publishers' permissions do not reach these queues.
    Ourselves,
}

/// Takes in messages and gives each a task of its own.
pub(super) struct Intake {
    pub(super) worker: Worker,
    pub(super) dead_letterer: DeadLetterer,
    pub(super) stall_detector: Arc<StallDetector>,
    pub(super) metrics: Arc<Metrics>,
    /// Everything at work; the drain waits for it.
    pub(super) tasks: TaskTracker,
    pub(super) soft_stop: CancellationToken,
    pub(super) hard_stop: CancellationToken,
}

impl Intake {
    /// Feeds from one queue until the soft stop. The subscription's prefetch bounds the tasks.
    pub(super) async fn feed(
        self: &Arc<Self>,
        mut subscription: Subscription,
        source: Source,
        beat: impl Fn(),
    ) {
        loop {
            beat();
            let next = tokio::select! {
                biased;
                () = self.soft_stop.cancelled() => break,
                next = tokio::time::timeout(BEAT_EVERY, subscription.next()) => next,
            };
            match next {
                Ok(Some(mut incoming)) => {
                    if source == Source::Publishers {
                        envelope::disown(&mut incoming.message);
                    }
                    self.spawn(incoming, Rank::Fresh);
                }
                Ok(None) => break,
                Err(_nothing_came) => {}
            }
        }
        subscription.cancel().await;
    }

    /// Takes one incoming in, in a task of its own.
    pub(super) fn spawn(self: &Arc<Self>, incoming: Incoming, rank: Rank) {
        let intake = Arc::clone(self);
        self.tasks.spawn(async move { intake.take_in(incoming, rank).await });
    }

    /// One incoming, from its arrival to its ack.
    pub(super) async fn take_in(&self, incoming: Incoming, rank: Rank) {
        let Incoming { message, routing_key, ack_handle, redelivered, .. } = incoming;
        let _in_hand = (self.metrics.incoming(), self.stall_detector.take());
        let envelope = Arc::new(Envelope::of(message, routing_key, rank, clock::now()));
        crash_point("received");
        let worked = AssertUnwindSafe(self.worker.work(&envelope, redelivered)).catch_unwind();
        // The work first: a look at the stop takes a lock that all messages share.
        let worked = tokio::select! {
            biased;
            worked = worked => worked,
            () = self.hard_stop.cancelled() => Ok(Err(Unsettled::CutOff)),
        };
        let disposition = match worked {
            Ok(disposition) => disposition,
            // The panic hook has logged it. The message becomes a dead letter, so that it cannot kill again.
            Err(_panic) => self.dead_letterer.panicked(&envelope).await,
        };
        crash_point("before_ack");
        match disposition {
            Ok(()) => ack_handle.ack(),
            // What is to be deferred has been, further in. If it were not, the broker had better have it back.
            Err(Unsettled::Released | Unsettled::ToDefer(_)) => ack_handle.give_back(),
            Err(Unsettled::CutOff) => drop(ack_handle),
        }
    }
}

/// Works on messages, whatever queue they come from.
pub(super) struct Worker {
    pub(super) max_body_bytes: usize,
    pub(super) default_ttl: Duration,
    pub(super) db: Database,
    pub(super) apps: Arc<Apps>,
    pub(super) planner: Planner,
    pub(super) fan_out: FanOut,
    pub(super) processor: Arc<Processor>,
    pub(super) deferrer: Deferrer,
    pub(super) dead_letterer: DeadLetterer,
    pub(super) metrics: Arc<Metrics>,
    pub(super) soft_stop: CancellationToken,
}

/// What a message is about.
enum Content {
    Event(Arc<Event>),
    Delivery(Delivery),
}

impl Content {
    fn event(&self) -> &Event {
        match self {
            Self::Event(event) => event,
            Self::Delivery(delivery) => &delivery.event,
        }
    }
}

impl Worker {
    /// Brings everybody whom the message is for as far as it goes now. Afterwards it may be acked.
    pub(super) async fn work(&self, envelope: &Arc<Envelope>, redelivered: bool) -> Disposition {
        let size = envelope.message.body.len();
        if size > self.max_body_bytes {
            let problem = format!("{size} bytes; amqp.max_body is {}", self.max_body_bytes);
            return self.dead_letterer.message(envelope, DeadReason::Oversized, None, &problem).await;
        }
        if !envelope.message.damaged.is_empty() {
            let malformed = Malformed::not_utf8(&envelope.message.damaged);
            return self.dead_letterer.malformed(envelope, &malformed).await;
        }
        self.database_delivers().await?;
        let content = match self.read(envelope) {
            Ok(content) => content,
            Err(malformed) => return self.dead_letterer.malformed(envelope, &malformed).await,
        };
        let app = self.apps.resolve(content.event()).await;
        if let Ok(app) = &app
            && app.belongs_in_lane(envelope.rank)
        {
            return self.move_to_lane(envelope, app).await;
        }
        match content {
            Content::Event(event) => self.spread(event, app, envelope, redelivered).await,
            // Boxed: few messages are one, and room for it would be copied with each event.
            Content::Delivery(delivery) => Box::pin(self.bring(delivery, app, envelope)).await,
        }
    }

    fn read(&self, envelope: &Envelope) -> Result<Content, Malformed> {
        if envelope.is_delivery_message {
            return read_delivery_message(envelope).map(Content::Delivery);
        }
        Event::decode(&envelope.message.body, &self.arrival(envelope))
            .map(|event| Content::Event(Arc::new(event)))
    }

    async fn move_to_lane(&self, envelope: &Envelope, app: &AppRuntime) -> Disposition {
        if !envelope.is_delivery_message {
            self.metrics.event(EventResult::Moved);
        }
        self.deferrer.message_to_lane(envelope, app).await
    }

    /// Plans a fresh event, and brings its deliveries.
    async fn spread(
        &self,
        event: Arc<Event>,
        app: ResolvedApp,
        envelope: &Arc<Envelope>,
        redelivered: bool,
    ) -> Disposition {
        let Some(spread) = self.planner.plan(&event, &app, envelope).await? else { return Ok(()) };
        let progress = envelope.progress();
        let spreading = Spreading { event: &event, envelope, app, progress, redelivered };
        match spread {
            Spread::AtOnce(plan) => self.fan_out.at_once(plan, spreading).await,
            Spread::InPages { written } => Box::pin(self.fan_out.in_pages(written, spreading)).await,
        }
    }

    /// Consumption pauses while PostgreSQL does not do its work: what has not begun stays unacked, and the prefetch bounds how
    /// much that is.
    async fn database_delivers(&self) -> Disposition {
        if self.db.health().delivers() {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = self.soft_stop.cancelled() => Err(Unsettled::Released),
            () = self.db.health().until_it_delivers() => Ok(()),
        }
    }

    /// Brings a delivery whose message came back from the ladder, a lane or an operator.
    async fn bring(&self, delivery: Delivery, app: ResolvedApp, envelope: &Arc<Envelope>) -> Disposition {
        let job = Job { delivery, envelope: Arc::clone(envelope), app };
        let work = async {
            let disposition = self.processor.process(&job, envelope.rank).await;
            self.deferrer.if_it_must_wait(&job, disposition).await
        };
        let ended = AssertUnwindSafe(work).catch_unwind().await;
        self.dead_letterer.if_it_panicked(&job, ended).await
    }

    fn arrival<'a>(&self, envelope: &'a Envelope) -> Arrival<'a> {
        Arrival {
            message_id: envelope.message.message_id.as_deref(),
            timestamp: envelope.published_at(),
            first_seen: envelope.first_seen,
            default_ttl: self.default_ttl,
        }
    }
}

fn read_delivery_message(envelope: &Envelope) -> Result<Delivery, Malformed> {
    let (event, recipient) = delivery_message::decode(&envelope.message.body)?;
    Ok(Delivery { event: Arc::new(event), recipient, progress: envelope.progress() })
}

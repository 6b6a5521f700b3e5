//! Consuming: incomings with their ack handles, across reconnects.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::BasicCancelOptions;
use lapin::{Channel, Consumer};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info};

use super::acks_task::Acks;
use super::attacher::Attacher;
use super::guarded::Guarded;
use super::link::Link;
use super::message::Message;
use super::request::in_time;
use super::topology::Topology;
use super::wire;
use crate::lifecycle::Task;

/// What was prefetched comes right behind the broker's answer to a cancel; longer means it never comes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// One AMQP message in our hands, not yet settled.
#[derive(Debug)]
pub struct Incoming {
    pub message: Message,
    /// The key it was published with, e.g. `payment.paid`.
    pub routing_key: String,
    /// The broker handed it out before, to us or to somebody else.
    pub redelivered: bool,
    pub ack_handle: AckHandle,
}

/// The duty to tell the broker what became of an incoming. Dropped without a word, the message stays unacked and comes
/// again when its channel ends.
pub struct AckHandle {
    tag: u64,
    /// Taken by the verdict.
    acks: Option<Arc<Acks>>,
}

impl AckHandle {
    /// The incoming is settled; the broker forgets it. Cheap: the ack is written together with others.
    pub fn ack(mut self) {
        if let Some(acks) = self.acks.take() {
            acks.ack(self.tag);
        }
    }

    /// Nothing was begun; the broker may hand it to somebody else. Counts as a redelivery before RabbitMQ 4.3, so it is
    /// no way to try again.
    pub fn give_back(mut self) {
        if let Some(acks) = self.acks.take() {
            acks.give_back(self.tag);
        }
    }
}

impl Drop for AckHandle {
    fn drop(&mut self) {
        if self.acks.is_some() {
            debug!(
                tag = self.tag,
                "an ack handle was dropped without ack or nack; its message stays unacked"
            );
        }
    }
}

impl fmt::Debug for AckHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AckHandle").field("tag", &self.tag).finish_non_exhaustive()
    }
}

/// A consumer of one queue, attached again after every loss, each time on a new channel with a new tag.
pub struct Subscription {
    attachments: mpsc::Receiver<Attachment>,
    current: Option<Attachment>,
    attached: watch::Receiver<bool>,
    _done: DropGuard,
}

/// One channel with one consumer. Its acks go nowhere else.
pub(super) struct Attachment {
    pub consumer: Consumer,
    pub channel: Channel,
    pub acks: Arc<Acks>,
    pub over: CancellationToken,
}

impl Subscription {
    pub(super) fn start(
        link: Link,
        topology: &Arc<Topology>,
        queue: &str,
        prefetch: u16,
        stale: &Arc<AtomicU64>,
        ackers: &Guarded,
    ) -> Self {
        let (hand_over, attachments) = mpsc::channel(1);
        let (attached_in, attached) = watch::channel(false);
        let done = CancellationToken::new();
        let attacher = Attacher {
            link,
            topology: topology.clone(),
            queue: queue.to_owned(),
            prefetch,
            stale: stale.clone(),
            ackers: ackers.clone(),
            hand_over,
            attached: attached_in,
            done: done.clone(),
        };
        ackers.spawn_untracked(Task::Subscriber, attacher.run());
        Self { attachments, current: None, attached, _done: done.drop_guard() }
    }

    /// The next incoming, waiting through any loss of the connection. `None` once the broker is closed for good. Safe to
    /// drop and call again: nothing is lost in between.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            let Some(attachment) = &mut self.current else {
                self.current = Some(self.attachments.recv().await?);
                continue;
            };
            let over = attachment.over.clone();
            let arrived = tokio::select! {
                biased;
                arrived = attachment.consumer.next() => arrived,
                // lapin does not end every stream with its connection: one that nobody answers is closed without a last word.
                () = over.cancelled() => None,
            };
            match arrived {
                // What an ended channel still holds comes again on the next one.
                Some(Ok(_)) if over.is_cancelled() => self.detach(None),
                Some(Ok(delivery)) => return Some(attachment.incoming(delivery)),
                ended => self.detach(ended.and_then(Result::err)),
            }
        }
    }

    /// Whether a consumer stands at the broker, as it changes. For readiness.
    pub fn attached(&self) -> watch::Receiver<bool> {
        self.attached.clone()
    }

    /// Stops consuming. What was prefetched but not taken by [`next`](Self::next) goes back to the broker; ack handles that
    /// are out still count. Returns how many went back.
    pub async fn cancel(mut self) -> usize {
        let mut given_back = 0;
        // Behind one that is over the next may wait already.
        let (current, next) = (self.current.take(), self.attachments.try_recv().ok());
        for attachment in [current, next].into_iter().flatten() {
            given_back += attachment.cancel().await;
        }
        given_back
    }

    /// An error, or the end, of a stream is the end of the whole channel (docs/STACK.md#recovery-stays-off).
    fn detach(&mut self, error: Option<lapin::Error>) {
        if let Some(attachment) = self.current.take() {
            let why = error.map_or_else(|| "the stream ended".to_owned(), |error| error.to_string());
            let queue = attachment.consumer.queue();
            info!(%queue, why, "consumer ended; subscribing again");
            attachment.over.cancel();
        }
    }
}

impl Attachment {
    fn incoming(&self, delivery: Delivery) -> Incoming {
        let message = wire::received(&delivery.routing_key, &delivery.properties, delivery.data);
        Incoming {
            routing_key: delivery.routing_key.into(),
            redelivered: delivery.redelivered,
            ack_handle: AckHandle { tag: delivery.delivery_tag, acks: Some(self.acks.clone()) },
            message,
        }
    }

    /// Stops consuming; what was prefetched goes back. Returns how many.
    pub(super) async fn cancel(mut self) -> usize {
        if self.over.is_cancelled() {
            return 0;
        }
        let cancelled = self.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default());
        if let Err(error) = in_time("basic.cancel", cancelled).await {
            debug!(%error, "cannot cancel a consumer; closing its channel");
            self.over.cancel();
            return 0;
        }
        let mut given_back = 0;
        while let Ok(Some(Ok(delivery))) = tokio::time::timeout(DRAIN_TIMEOUT, self.consumer.next()).await {
            self.acks.give_back(delivery.delivery_tag);
            given_back += 1;
        }
        given_back
    }
}

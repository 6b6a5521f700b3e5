//! Consuming: a subscription yields incomings, across reconnects.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

use super::attacher::Attacher;
use super::attachment::Attachment;
use super::guarded::Guarded;
use super::incoming::Incoming;
use super::link::Link;
use super::topology::Topology;
use crate::lifecycle::Task;

/// A consumer of one queue, attached again after every loss, each time on a new channel with a new tag.
pub struct Subscription {
    attachments: mpsc::Receiver<Attachment>,
    current: Option<Attachment>,
    attached: watch::Receiver<bool>,
    _done: DropGuard,
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

    /// The next incoming, waiting through any loss of the connection. `None` once the broker is closed. Safe to
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

    /// Whether a consumer is subscribed at the broker, as it changes. For readiness.
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

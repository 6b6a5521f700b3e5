//! The task that writes a channel's acks. It is the only one that acks there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::try_join_all;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::acks::{AckWindow, DueAcks};
use super::live::Live;
use super::request::{LinkError, farewell, in_time};

/// Verdicts taken up at once. They keep coming while a write runs, so one round covers all of them.
const ROUND: usize = 1024;

/// What became of one incoming.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    Ack(u64),
    GiveBack(u64),
}

/// Takes verdicts for one channel. The channel lives until the last clone is gone, or its end comes by itself.
pub(super) struct Acks {
    verdicts: mpsc::UnboundedSender<Verdict>,
    stale: Arc<AtomicU64>,
}

impl Acks {
    pub fn ack(&self, tag: u64) {
        self.send(Verdict::Ack(tag));
    }

    pub fn give_back(&self, tag: u64) {
        self.send(Verdict::GiveBack(tag));
    }

    /// Never waits: the prefetch bounds what can be under way.
    fn send(&self, verdict: Verdict) {
        if self.verdicts.send(verdict).is_err() {
            // The channel is gone and the broker has taken the message back: an ack has nothing left to say.
            self.stale.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Makes the ack side of `channel`. `over` ends it when the consumer's end is known before the acks notice.
pub(super) fn writer(
    live: Arc<Live>,
    channel: Channel,
    prefetch: u16,
    stale: Arc<AtomicU64>,
    over: CancellationToken,
) -> (Acks, impl Future<Output = ()> + Send + 'static) {
    let (verdicts, received) = mpsc::unbounded_channel();
    let writer = Writer { live, channel, window: AckWindow::new(prefetch), received, over };
    (Acks { verdicts, stale }, writer.run())
}

struct Writer {
    live: Arc<Live>,
    channel: Channel,
    window: AckWindow,
    received: mpsc::UnboundedReceiver<Verdict>,
    over: CancellationToken,
}

impl Writer {
    async fn run(mut self) {
        let mut round = Vec::with_capacity(ROUND);
        while self.gather(&mut round).await {
            if let Err(error) = self.perform(&mut round).await {
                return self.give_up(&error);
            }
        }
        if !self.over.is_cancelled() {
            // Nobody holds an ack handle any more; what was dropped without a verdict goes back with the channel.
            farewell(self.channel).await;
        }
    }

    /// Waits for verdicts, or until settled tags have waited long enough for a gap. False when it is over.
    async fn gather(&mut self, round: &mut Vec<Verdict>) -> bool {
        let look = self.window.wake_at().map(Instant::from_std);
        tokio::select! {
            biased;
            () = self.over.cancelled() => false,
            () = self.live.over().cancelled() => { self.over.cancel(); false }
            taken = self.received.recv_many(round, ROUND) => taken > 0 || self.flush_rest().await,
            () = tokio::time::sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => true,
        }
    }

    /// The last ack handle is gone: what still waits for a gap is acked now.
    async fn flush_rest(&mut self) -> bool {
        if let Some(at) = self.window.wake_at() {
            let due = self.window.take_due(at);
            if let Err(error) = self.write(due).await {
                self.give_up(&error);
            }
        }
        false
    }

    async fn perform(&mut self, round: &mut Vec<Verdict>) -> Result<(), LinkError> {
        let now = Instant::now().into_std();
        for verdict in round.drain(..) {
            match verdict {
                Verdict::Ack(tag) => self.window.settle(tag, now),
                Verdict::GiveBack(tag) => {
                    // Written before any prefix that reaches over it, or the prefix would ack it.
                    let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                    in_time("basic.nack", self.channel.basic_nack(tag, options)).await?;
                    self.window.give_back(tag, now);
                }
            }
        }
        let due = self.window.take_due(now);
        self.write(due).await
    }

    async fn write(&self, due: DueAcks) -> Result<(), LinkError> {
        if let Some(tag) = due.prefix {
            let options = BasicAckOptions { multiple: true };
            in_time("basic.ack", self.channel.basic_ack(tag, options)).await?;
        }
        if !due.singles.is_empty() {
            let options = BasicAckOptions { multiple: false };
            let acks = due.singles.iter().map(|tag| self.channel.basic_ack(*tag, options));
            in_time("basic.ack", try_join_all(acks)).await?;
        }
        Ok(())
    }

    /// A channel that cannot ack is of no use; one that does not even answer condemns the connection.
    fn give_up(&self, error: &LinkError) {
        debug!(%error, "acks stop on this channel");
        self.over.cancel();
        if error.refusal().is_none() && self.channel.status().connected() {
            self.live.condemn(error);
        }
    }
}

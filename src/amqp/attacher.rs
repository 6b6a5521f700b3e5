//! Makes the attachments of a subscription: a channel, its consumer, its acks.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use super::acks_task;
use super::consumer::Attachment;
use super::declare::TopologyError;
use super::link::Link;
use super::live::Live;
use super::request::in_time;
use super::topology::Topology;
use super::trial::{self, Trial};
use super::wire::short;
use crate::delays::Delays;

/// Only the message at hand is counted when the connection ends over it.
const CAREFUL_PREFETCH: u16 = 1;

/// Why an attachment makes room for the next one.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Its channel is gone.
    Lost,
    /// It took one message at a time for long enough. Its receipts still count.
    TrialOver,
}

/// Makes attachments, one at a time, as long as the subscription lives.
pub(super) struct Attacher {
    pub link: Link,
    pub topology: Arc<Topology>,
    pub queue: String,
    pub prefetch: u16,
    /// The incarnation whose messages have stood their trial.
    pub trusted: Option<u64>,
    pub stale: Arc<AtomicU64>,
    pub ackers: TaskTracker,
    pub hand_over: mpsc::Sender<Attachment>,
    pub attached: watch::Sender<bool>,
    /// The subscription is gone.
    pub done: CancellationToken,
}

impl Drop for Attacher {
    fn drop(&mut self) {
        self.attached.send_replace(false);
    }
}

impl Attacher {
    pub async fn run(mut self) {
        let done = self.done.clone();
        let mut delays = Delays::reconnect();
        let mut complaint = String::new();
        for serial in 1_u64.. {
            let Some(Some(live)) = done.run_until_cancelled(self.link.live()).await else { return };
            // Never given up halfway: lapin forgets a consumer whose answer nobody waits for, while the broker goes on to
            // send it messages, and these would wait until the connection ends.
            match self.attach(&live, serial).await {
                Ok(attachment) if done.is_cancelled() => {
                    attachment.cancel().await;
                    return;
                }
                Ok(attachment) => {
                    delays.reset();
                    complaint.clear();
                    if self.stand(attachment).await == End::TrialOver {
                        self.trusted = Some(live.incarnation);
                        continue;
                    }
                }
                Err(error) => self.complain(&live, &error, &mut complaint),
            }
            let Some(delay) = delays.next() else { return };
            if done.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
                return;
            }
        }
    }

    async fn attach(&self, live: &Arc<Live>, serial: u64) -> Result<Attachment, TopologyError> {
        let channel = live.channel().await?;
        self.topology.declare_queue(&channel, &self.queue).await?;
        let trial = live.careful && self.trusted != Some(live.incarnation);
        let prefetch = if trial { CAREFUL_PREFETCH } else { self.prefetch };
        // Per consumer: a global limit is refused by quorum queues.
        in_time("basic.qos", channel.basic_qos(prefetch, BasicQosOptions { global: false })).await?;
        let tag = format!("{}#{}.{serial}", self.queue, live.incarnation);
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consuming = channel.basic_consume(short(&self.queue), short(&tag), options, arguments);
        let consumer = in_time("basic.consume", consuming).await?;

        let over = CancellationToken::new();
        let (acks, writer) =
            acks_task::writer(live.clone(), channel.clone(), prefetch, self.stale.clone(), over.clone());
        self.ackers.spawn(writer);
        let trial = trial.then(|| Trial::of(self.prefetch));
        Ok(Attachment { consumer, channel, acks: Arc::new(acks), over, trial })
    }

    /// Hands the attachment over and waits for its end, or for the end of its trial.
    async fn stand(&self, attachment: Attachment) -> End {
        let (channel, tag) = (attachment.channel.clone(), attachment.consumer.tag());
        let (over, trial) = (attachment.over.clone(), attachment.trial.as_ref().map(Trial::watch));
        if self.hand_over.send(attachment).await.is_err() {
            return End::Lost;
        }
        self.attached.send_replace(true);
        tokio::select! {
            () = over.cancelled() => {}
            () = self.done.cancelled() => return End::Lost,
            () = trial::passed(trial.as_ref()) => {
                let cancelled = channel.basic_cancel(tag, BasicCancelOptions::default());
                if in_time("basic.cancel", cancelled).await.is_ok() {
                    debug!(queue = self.queue, "the messages at hand can be parsed; taking many at a time again");
                    return End::TrialOver;
                }
                over.cancel();
            }
        }
        // A trial may be lost dozens of times to one bad message; in between, it takes in messages.
        if trial.is_none() {
            self.attached.send_replace(false);
        }
        End::Lost
    }

    /// A refusal concerns this queue only; anything else condemns the connection.
    fn complain(&self, live: &Live, failure: &TopologyError, last: &mut String) {
        let text = failure.to_string();
        let queue = self.queue.as_str();
        self.attached.send_replace(false);
        if !failure.needs_a_person() {
            debug!(queue, why = text, "cannot consume");
            live.condemn(failure);
        } else if *last == text {
            debug!(queue, why = text, "still cannot consume");
        } else {
            error!(queue, why = text, "cannot consume");
        }
        *last = text;
    }
}

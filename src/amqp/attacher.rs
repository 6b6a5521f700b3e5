//! Makes the attachments of a subscription: a channel, its consumer, its acks.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::acks_task;
use super::attachment::Attachment;
use super::declare::TopologyError;
use super::guarded::Guarded;
use super::link::Link;
use super::live::Live;
use super::request::in_time;
use super::topology::Topology;
use super::wire::short;
use crate::delays::Delays;
use crate::lifecycle::Task;

/// Makes attachments, one at a time, as long as the subscription lives.
pub(super) struct Attacher {
    pub link: Link,
    pub topology: Arc<Topology>,
    pub queue: String,
    pub prefetch: u16,
    pub stale: Arc<AtomicU64>,
    pub ackers: Guarded,
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
                    self.stand(attachment).await;
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
        // Per consumer: a global limit is refused by quorum queues.
        in_time("basic.qos", channel.basic_qos(self.prefetch, BasicQosOptions { global: false })).await?;
        let tag = format!("{}#{}.{serial}", self.queue, live.incarnation);
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consuming = channel.basic_consume(short(&self.queue), short(&tag), options, arguments);
        let consumer = in_time("basic.consume", consuming).await?;

        let over = CancellationToken::new();
        let (acks, writer) =
            acks_task::writer(live.clone(), channel.clone(), self.prefetch, self.stale.clone(), over.clone());
        self.ackers.spawn(Task::AckWriter, writer);
        Ok(Attachment { consumer, channel, acks: Arc::new(acks), over })
    }

    /// Hands the attachment over and waits for its end.
    async fn stand(&self, attachment: Attachment) {
        let over = attachment.over.clone();
        if self.hand_over.send(attachment).await.is_err() {
            return;
        }
        self.attached.send_replace(true);
        if self.done.run_until_cancelled(over.cancelled()).await.is_some() {
            self.attached.send_replace(false);
        }
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

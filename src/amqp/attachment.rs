//! One attachment of a subscription: a channel and its consumer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::BasicCancelOptions;
use lapin::{Channel, Consumer};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::acks_task::Acks;
use super::incoming::{AckHandle, Incoming};
use super::request::in_time;
use super::wire;

/// What was prefetched comes right behind the broker's answer to a cancel; longer means it never comes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// One channel with one consumer. Its acks go nowhere else.
pub(super) struct Attachment {
    pub consumer: Consumer,
    pub channel: Channel,
    pub acks: Arc<Acks>,
    pub over: CancellationToken,
}

impl Attachment {
    pub(super) fn incoming(&self, delivery: Delivery) -> Incoming {
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

//! Publishing onward: everything that leaves the pipeline for the broker goes through here.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::job::{Disposition, Unsettled};
use crate::amqp::{Message, Publisher, Route, Topology};
use crate::domain::ids::AppId;

/// Publishes until the broker has confirmed. While it is away or full this waits, with the incoming unacked. Cheap to clone.
#[derive(Clone)]
pub(super) struct OnwardPublisher {
    pub(super) publisher: Publisher,
    pub(super) topology: Topology,
    pub(super) hard_stop: CancellationToken,
}

impl OnwardPublisher {
    /// To the ladder's step of this delay.
    pub(super) async fn to_ladder(&self, delay: Duration, message: Message) -> Disposition {
        self.publish(Route::queue(self.topology.retry(delay)), message).await
    }

    /// To the lane of one app.
    pub(super) async fn to_lane(&self, app_id: &AppId, message: Message) -> Disposition {
        self.publish(Route::queue(self.topology.lane(app_id)), message).await
    }

    /// To the dead queue.
    pub(super) async fn to_dead_letters(&self, message: Message) -> Disposition {
        self.publish(Route::exchange(self.topology.dead(), ""), message).await
    }

    async fn publish(&self, route: Route, message: Message) -> Disposition {
        // Boxed, as it is rare: room for it in every future that might have to publish would be copied with each message.
        Box::pin(self.publisher.publish_until_confirmed(&route, &message, &self.hard_stop))
            .await
            .map_err(|_stopped| Unsettled::CutOff)
    }
}

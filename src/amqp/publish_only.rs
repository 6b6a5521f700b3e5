//! Publishing as a business system does it: with the right to write to the exchange of events, and no other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::broker::{NotReady, SetupError, address};
use super::health::LinkHealth;
use super::link::{Blueprint, Link};
use super::publisher::Publisher;
use super::topology::Topology;
use crate::config;

/// One connection that publishes. Declares and consumes nothing.
pub struct PublishOnly {
    publisher: Publisher,
    health: watch::Receiver<LinkHealth>,
    supervisors: TaskTracker,
    stop: CancellationToken,
}

impl PublishOnly {
    /// Starts connecting and returns at once. Must be called inside a tokio runtime.
    pub fn start(config: &config::Amqp, topology: Topology) -> Result<Self, SetupError> {
        let topology = Arc::new(topology);
        let blueprint =
            Arc::new(Blueprint { address: address(config)?, topology: topology.clone(), declared: None });
        let (stop, supervisors) = (CancellationToken::new(), TaskTracker::new());
        let (health_in, health) = watch::channel(LinkHealth::default());
        let report = move |link| {
            health_in.send_replace(link);
        };
        let (link, supervisor) = Link::start("publish", blueprint, report, stop.clone());
        supervisors.spawn(supervisor);
        let publisher = Publisher::start(link, topology, &supervisors);
        Ok(Self { publisher, health, supervisors, stop })
    }

    /// Waits until the connection is up.
    pub async fn ready(&self, patience: Duration) -> Result<(), NotReady> {
        let mut health = self.health.clone();
        if tokio::time::timeout(patience, health.wait_for(|link| link.up)).await.is_ok() {
            return Ok(());
        }
        let trouble = self.health.borrow().trouble.clone();
        Err(NotReady::after(patience, trouble.as_deref()))
    }

    /// Publishes with confirms.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.stop.cancel();
        drop(self.publisher);
        self.supervisors.close();
        self.supervisors.wait().await;
    }
}

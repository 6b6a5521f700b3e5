//! A visit to the broker as a business system makes it: with the right to write to the exchange of events, and no other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::broker::{NotReady, SetupError, address};
use super::guarded::Guarded;
use super::health::LinkHealth;
use super::link::{Blueprint, Link};
use super::live::depths;
use super::publisher::Publisher;
use super::request::LinkError;
use super::topology::Topology;
use crate::config;
use crate::lifecycle::{Task, Tasks};

/// One connection that publishes and looks. Declares and consumes nothing.
pub struct Guest {
    link: Link,
    publisher: Publisher,
    health: watch::Receiver<LinkHealth>,
    supervisors: Guarded,
    stop: CancellationToken,
}

impl Guest {
    /// Starts connecting and returns at once. Must be called inside a tokio runtime.
    pub fn start(config: &config::Amqp, topology: Topology) -> Result<Self, SetupError> {
        let topology = Arc::new(topology);
        let blueprint =
            Arc::new(Blueprint { address: address(config)?, topology: topology.clone(), declared: None });
        let (stop, supervisors) = (CancellationToken::new(), Guarded::new(&Tasks::default()));
        let (health_in, health) = watch::channel(LinkHealth::default());
        let report = move |link| {
            health_in.send_replace(link);
        };
        let (link, supervisor) = Link::start("guest", blueprint, report, stop.clone());
        supervisors.spawn(Task::BrokerLink, supervisor);
        let publisher = Publisher::start(link.clone(), topology, &supervisors);
        Ok(Self { link, publisher, health, supervisors, stop })
    }

    /// Waits until the connection is up.
    pub async fn ready(&self, patience: Duration) -> Result<(), NotReady> {
        let mut health = self.health.clone();
        if tokio::time::timeout(patience, health.wait_for(|link| link.up)).await.is_ok() {
            return Ok(());
        }
        let problem = self.health.borrow().problem.clone();
        Err(NotReady::after(patience, problem.as_deref()))
    }

    /// Publishes with confirms.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// As [`Broker::depths`](super::Broker::depths).
    pub async fn depths(&self, queues: &[String]) -> Result<Vec<(String, u64)>, LinkError> {
        depths(&*self.link.now().ok_or(LinkError::Away)?, queues).await
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.stop.cancel();
        drop(self.publisher);
        self.supervisors.ended().await;
    }
}

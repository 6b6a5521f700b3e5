//! Publishing events: all at once before a run, or at a steady pace during one.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueuePurgeOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::time::MissedTickBehavior;

use super::load::Event;

/// Confirms awaited together.
const WINDOW: usize = 500;
/// How often the steady publisher looks what is due.
const TICK: Duration = Duration::from_millis(1);
/// Events that wait while they are published as fast as they are worked off: more than any window, and no long queue.
const AHEAD: u64 = 2_000;
/// Between two looks at how many have been worked off: a small part of the time that those ahead last.
const LOOK: Duration = Duration::from_millis(20);

/// A connection to the broker, for one queue prefix.
pub struct Publisher {
    _connection: Connection,
    channel: Channel,
    prefix: String,
}

/// An event that was published at a steady pace, and when: microseconds since 1970.
pub struct Published {
    pub openid: String,
    pub at_us: u64,
}

impl Publisher {
    pub async fn connect(url: &str, prefix: &str) -> Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { _connection: connection, channel, prefix: prefix.to_owned() })
    }

    /// Throws away what an earlier run may have left.
    pub async fn purge(&self) -> Result<()> {
        let queue = format!("{}.events", self.prefix);
        self.channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await?;
        Ok(())
    }

    /// Publishes all, and returns when the broker has them safe.
    pub async fn fill(&self, events: impl Iterator<Item = Event>) -> Result<()> {
        let mut confirms = Vec::with_capacity(WINDOW);
        for event in events {
            confirms.push(self.publish(&event).await?);
            if confirms.len() == WINDOW {
                for confirm in confirms.drain(..) {
                    ensure!(confirm.await?.is_ack(), "the broker refused an event");
                }
            }
        }
        for confirm in confirms {
            ensure!(confirm.await?.is_ack(), "the broker refused an event");
        }
        Ok(())
    }

    /// Publishes as fast as events are worked off. `done`: how many of them are.
    pub async fn keep_ahead(
        &self,
        events: impl Iterator<Item = Event>,
        done: impl AsyncFn() -> Result<u64>,
    ) -> Result<()> {
        let (mut published, mut most, mut confirms) = (0, AHEAD, Vec::new());
        for event in events {
            while published == most {
                tokio::time::sleep(LOOK).await;
                most = done().await? + AHEAD;
            }
            confirms.push(self.publish(&event).await?);
            published += 1;
        }
        for confirm in confirms {
            ensure!(confirm.await?.is_ack(), "the broker refused an event");
        }
        Ok(())
    }

    /// Publishes at this rate, and tells when each went out.
    pub async fn steadily(
        &self,
        per_second: f64,
        events: impl Iterator<Item = Event>,
    ) -> Result<Vec<Published>> {
        let began = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut published, mut confirms) = (Vec::new(), Vec::new());
        for event in events {
            let due = Duration::from_secs_f64(f64::from(u32::try_from(published.len())?) / per_second);
            while began.elapsed() < due {
                ticks.tick().await;
            }
            let at_us = now_us()?;
            confirms.push(self.publish(&event).await?);
            published.push(Published { openid: event.openid, at_us });
        }
        for confirm in confirms {
            ensure!(confirm.await?.is_ack(), "the broker refused an event");
        }
        Ok(published)
    }

    async fn publish(&self, event: &Event) -> Result<lapin::PublisherConfirm> {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            // The floor takes the user from here, as it reads no JSON.
            .with_message_id(event.openid.as_str().into());
        let exchange = format!("{}.events", self.prefix);
        let options = BasicPublishOptions::default();
        let key = "payment.paid".into();
        let sent = self.channel.basic_publish(exchange.into(), key, options, &event.body, properties).await;
        sent.context("cannot publish")
    }
}

/// The simulator's clock too: both run on this machine.
#[expect(clippy::disallowed_methods, reason = "measuring is what this program is for")]
fn now_us() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_micros())?)
}

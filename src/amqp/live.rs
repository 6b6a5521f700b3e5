//! One incarnation of a connection.

use std::sync::{Mutex, PoisonError};

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::request::{LinkError, farewell, in_time};
use super::wire::short;

/// One incarnation of the connection. Any part that sees something unusual condemns it; the supervisor builds the next one.
pub(super) struct Live {
    pub(super) connection: Connection,
    /// Counts connections of this link, from 1.
    pub incarnation: u64,
    over: CancellationToken,
    verdict: Mutex<Option<String>>,
    blocked: watch::Sender<bool>,
}

impl Live {
    pub fn new(connection: Connection, incarnation: u64) -> Self {
        Self {
            connection,
            incarnation,
            over: CancellationToken::new(),
            verdict: Mutex::default(),
            blocked: watch::Sender::new(false),
        }
    }

    /// Opens a channel.
    pub async fn channel(&self) -> Result<Channel, LinkError> {
        in_time("channel.open", self.connection.create_channel()).await
    }

    /// Whether the broker refuses to read what is published here (memory or disk alarm).
    pub fn blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Notes what lapin says of it now, for those who wait.
    pub fn note_blocked(&self) {
        let blocked = self.blocked();
        self.blocked.send_if_modified(|known| std::mem::replace(known, blocked) != blocked);
    }

    /// Waits until it is blocked.
    pub async fn until_blocked(&self) {
        // The sender is our own and lives as long as this.
        let _ = self.blocked.subscribe().wait_for(|blocked| *blocked).await;
    }

    /// Ends this incarnation. The first reason counts.
    pub fn condemn(&self, why: impl std::fmt::Display) {
        let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        verdict.get_or_insert_with(|| why.to_string());
        self.over.cancel();
    }

    /// Cancelled when this incarnation is over.
    pub fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// Why it is over.
    pub fn verdict(&self) -> String {
        let verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        verdict.clone().unwrap_or_else(|| "closed".to_owned())
    }
}

/// How many messages wait in each queue (those in somebody's hands not counted); a queue that does not exist is left out.
pub(super) async fn depths(live: &Live, queues: &[String]) -> Result<Vec<(String, u64)>, LinkError> {
    let mut channel = live.channel().await?;
    let mut depths = Vec::with_capacity(queues.len());
    for queue in queues {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let asked = channel.queue_declare(short(queue), options, FieldTable::default());
        match in_time("queue.declare (passive)", asked).await {
            Ok(answer) => depths.push((queue.clone(), answer.message_count().into())),
            // A queue that is not there closes the channel.
            Err(error) if error.refusal().is_some() => channel = live.channel().await?,
            Err(error) => return Err(error),
        }
    }
    farewell(channel).await;
    Ok(depths)
}

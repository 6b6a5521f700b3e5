//! The places that a listener's connections hold. When all are taken, the next connection gets the place of the one that is
//! longest without an answer.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

/// Connections at once. Each costs some ten KiB and a file descriptor; probes and scrapes need a handful.
pub const MAX_CONNECTIONS: usize = 256;

/// All places of one listener.
#[derive(Default)]
pub struct Places {
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    /// By ticket, so that the one that has waited longest is first.
    holders: BTreeMap<u64, oneshot::Sender<()>>,
    last_ticket: u64,
}

/// A connection's place, given back when dropped.
pub struct Place {
    places: Arc<Places>,
    ticket: u64,
    /// `None`: it was given to another.
    needed: Option<oneshot::Receiver<()>>,
}

impl Places {
    /// A place, at once.
    pub fn take(self: &Arc<Self>) -> Place {
        let (need, needed) = oneshot::channel();
        let mut taken = self.lock();
        if taken.holders.len() >= MAX_CONNECTIONS {
            // A holder that is ending anyway is not notified.
            let _ = taken.holders.pop_first().map(|(_, longest)| longest.send(()));
        }
        let ticket = taken.put(need);
        Place { places: Arc::clone(self), ticket, needed: Some(needed) }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Behind all others.
    fn put(&mut self, holder: oneshot::Sender<()>) -> u64 {
        self.last_ticket += 1;
        self.holders.insert(self.last_ticket, holder);
        self.last_ticket
    }
}

impl Place {
    /// The holder got an answer: all others have waited longer now.
    pub fn renew(&mut self) {
        let mut taken = self.places.lock();
        if let Some(holder) = taken.holders.remove(&self.ticket) {
            self.ticket = taken.put(holder);
        }
    }

    /// Ready once the place is needed for another connection.
    pub fn poll_needed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(needed) = &mut self.needed else { return Poll::Ready(()) };
        let poll = Pin::new(needed).poll(context).map(drop);
        if poll.is_ready() {
            // A receiver must not be asked again.
            self.needed = None;
        }
        poll
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().holders.remove(&self.ticket);
    }
}

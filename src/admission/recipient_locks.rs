//! One request in flight per openid within a process: WeChat answers two at once with 43108.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::domain::ids::{AppId, Openid};

/// A user of an app.
type Key = (AppId, Openid);

/// Locks are held for nanoseconds; a few dozen shards keep two cores from meeting in one.
const SHARDS: usize = 64;

/// Whose lock it is, for every openid at work.
#[derive(Clone)]
pub struct RecipientLocks {
    shards: Arc<[Mutex<Shard>; SHARDS]>,
    hasher: RandomState,
}

/// Present means taken; the queue holds who waits, first come first served.
type Shard = HashMap<Key, VecDeque<oneshot::Sender<RecipientLock>>>;

/// The right to send to one openid. Dropping it passes it on.
pub struct RecipientLock {
    recipient_locks: RecipientLocks,
    key: Option<Key>,
}

impl Default for RecipientLocks {
    /// None is taken.
    fn default() -> Self {
        Self { shards: Arc::new(std::array::from_fn(|_| Mutex::default())), hasher: RandomState::new() }
    }
}

impl RecipientLocks {
    /// Waits for the lock of this user.
    pub async fn take(&self, app: &AppId, openid: &Openid) -> RecipientLock {
        let key = (app.clone(), openid.clone());
        let waiting = {
            let mut shard = self.shard(&key);
            match shard.get_mut(&key) {
                None => {
                    shard.insert(key.clone(), VecDeque::new());
                    None
                }
                Some(queue) => {
                    let (sender, receiver) = oneshot::channel();
                    queue.push_back(sender);
                    Some(receiver)
                }
            }
        };
        match waiting {
            None => RecipientLock { recipient_locks: self.clone(), key: Some(key) },
            Some(receiver) => {
                receiver.await.unwrap_or(RecipientLock { recipient_locks: self.clone(), key: None })
            }
        }
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        let at = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or_default();
        // Nothing can panic under this lock; if it did, the map would still be whole.
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass_on(&self, key: Key) {
        let next = {
            let mut shard = self.shard(&key);
            let next = shard.get_mut(&key).and_then(VecDeque::pop_front);
            if next.is_none() {
                shard.remove(&key);
            }
            next
        };
        if let Some(next) = next {
            // Outside the lock: if the waiter has left, the lock comes back here by its own drop.
            let _ = next.send(RecipientLock { recipient_locks: self.clone(), key: Some(key) });
        }
    }
}

impl Drop for RecipientLock {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.recipient_locks.clone().pass_on(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn user(openid: &str) -> Key {
        ("wx1".parse().unwrap(), openid.parse().unwrap())
    }

    #[tokio::test]
    async fn a_user_is_sent_to_by_one_at_a_time_in_the_order_of_asking() {
        let (recipient_locks, (app, anna)) = (RecipientLocks::default(), user("anna"));
        let first = recipient_locks.take(&app, &anna).await;
        let mut second = Box::pin(recipient_locks.take(&app, &anna));
        let mut third = Box::pin(recipient_locks.take(&app, &anna));
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "the third overtook the second");
        drop(second.await);
        drop(third.await);
        assert!(recipient_locks.take(&app, &anna).now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_leaves_the_queue_does_not_stop_it() {
        let (recipient_locks, (app, anna)) = (RecipientLocks::default(), user("anna"));
        let first = recipient_locks.take(&app, &anna).await;
        let mut leaver = Box::pin(recipient_locks.take(&app, &anna));
        assert!(leaver.as_mut().now_or_never().is_none());
        let mut stayer = Box::pin(recipient_locks.take(&app, &anna));
        assert!(stayer.as_mut().now_or_never().is_none());
        drop(leaver);
        drop(first);
        assert!(stayer.now_or_never().is_some());
        assert!(recipient_locks.take(&app, &user("berta").1).now_or_never().is_some());
    }
}

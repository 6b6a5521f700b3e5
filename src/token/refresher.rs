//! The one task that keeps every app's token.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use uuid::Uuid;

use super::cache::{Request, TokenCache};
use super::reading::Readings;
use super::refresh::{Means, Refreshed, refresh};
use super::timing::Timing;
use super::tracked::{RefreshHook, TrackedApp, TrackedApps};
use crate::db::Database;
use crate::db::listen::{Heard, Listener};
use crate::domain::ids::AppId;
use crate::failpoint::panic_point;
use crate::lifecycle::{Task, Tasks};
use crate::wechat::Client;

/// Refreshes at once. With WeChat away each takes the whole request timeout, and so many connections are wanted elsewhere.
const MAX_REFRESHES: usize = 16;
/// How much longer than a request to WeChat a lease lasts: time for the storing, on a database that is slow just then.
const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// Announcements waiting for the refresher; more only wait in the connection.
const MAX_HEARD: usize = 64;

/// What the refresher lives in.
pub struct Surroundings {
    pub tasks: Tasks,
    /// Ends it; see [`Refresher::start`].
    pub stop: CancellationToken,
}

/// Owns all apps' tokens. [`Refresher::start`] it once per process.
pub struct Refresher {
    means: Means,
    apps: TrackedApps,
    readings: Readings,
    /// Refreshes under way.
    refreshes: FuturesUnordered<BoxFuture<'static, (AppId, Refreshed)>>,
}

impl Refresher {
    /// Starts the task. It works until the stop, lets the refreshes under way end, and then ends itself; stop it after the
    /// senders, who need it. Nothing has to be up: it waits for the database, and lookups say so.
    pub fn start(
        db: Database,
        listener: Listener,
        client: Client,
        timing: Timing,
        hook: RefreshHook,
        around: Surroundings,
    ) -> (TokenCache, JoinHandle<()>) {
        let (cache, states, requests) = TokenCache::new();
        let lease = client.request_timeout() + LEASE_MARGIN;
        let refresher = Self {
            readings: Readings::new(db.clone()),
            means: Means { db, client, owner: Uuid::new_v4(), lease },
            apps: TrackedApps::new(states, timing, hook),
            refreshes: FuturesUnordered::new(),
        };
        (cache, tokio::spawn(refresher.run(listener, requests, around)))
    }

    async fn run(mut self, listener: Listener, mut requests: mpsc::Receiver<Request>, around: Surroundings) {
        let Surroundings { tasks, stop } = around;
        let (tell, mut heard) = mpsc::channel(MAX_HEARD);
        let listening = tasks.guard(Task::TokenListener, listener.run(tell));
        let _listening = AbortOnDropHandle::new(tokio::spawn(listening));
        let mut poll = interval(self.apps.timing.poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            panic_point("refresher");
            self.keep_time(Instant::now());
            let wake_at = self.wake_at();
            tokio::select! {
                () = stop.cancelled() => break,
                Some((app_id, refreshed)) = self.refreshes.next() => self.apps.settle(&app_id, refreshed),
                Some(read) = self.readings.next() => self.readings.finish(read, &mut self.apps),
                Some(request) = requests.recv() => self.serve(request),
                Some(news) = heard.recv() => self.hear(news),
                _ = poll.tick() => self.readings.read_all(false),
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
            }
        }
        self.finish_refreshes().await;
    }

    /// A classic token that was fetched but not stored would leave the others with a dying one.
    async fn finish_refreshes(&mut self) {
        while let Some((app_id, refreshed)) = self.refreshes.next().await {
            self.apps.settle(&app_id, refreshed);
        }
    }

    /// Ends what is over, and begins what is due.
    fn keep_time(&mut self, now: Instant) {
        let mut room = MAX_REFRESHES.saturating_sub(self.refreshes.len());
        for (app_id, tracked) in &mut self.apps.apps {
            if tracked.entry.expire(now) {
                warn!(%app_id, "the access token expired before a newer one was fetched");
                tracked.publish();
            }
            if room > 0
                && let Some(order) = tracked.entry.order(now)
            {
                room -= 1;
                let (means, app_id) = (self.means.clone(), app_id.clone());
                self.refreshes.push(Box::pin(async move {
                    let refreshed = refresh(&means, &order).await;
                    (app_id, refreshed)
                }));
            }
        }
    }

    /// When [`Self::keep_time`] has something to do next. Without room for a refresh, its end is what wakes us.
    fn wake_at(&self) -> Option<Instant> {
        let room = self.refreshes.len() < MAX_REFRESHES;
        let moments =
            |tracked: &TrackedApp| [tracked.entry.due_at().filter(|_| room), tracked.entry.expires_at()];
        self.apps.apps.values().flat_map(moments).flatten().min()
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::LookUp { app_id, answer } => self.readings.look_up(app_id, answer, &self.apps),
            Request::Rejected { app_id, generation } => self.apps.reject(&app_id, generation),
        }
    }

    fn hear(&mut self, news: Heard) {
        match news {
            Heard::Listening => self.readings.read_all(true),
            Heard::Stored { app_id, version } => {
                let stale = |tracked: &TrackedApp| tracked.entry.version() < version;
                if self.apps.apps.get(&app_id).is_none_or(stale) {
                    self.readings.read_one(&app_id, true);
                }
            }
            Heard::Changed { app_id } => {
                self.readings.read_one(&app_id, true);
                if let Some(tracked) = self.apps.apps.get_mut(&app_id) {
                    tracked.entry.wake_if_faulty(Instant::now());
                }
            }
        }
    }
}

//! The one task that keeps every app's token.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::cache::{AppState, AppStates, Request, TokenCache};
use super::entry::Entry;
use super::reading::Readings;
use super::refresh::{Means, RefreshResult, Refreshed, refresh};
use super::timing::Timing;
use crate::db::listen::{Heard, Listener};
use crate::db::registry::live_apps::AppRow;
use crate::db::{self, Database};
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

/// Called with every result.
pub type RefreshHook = Arc<dyn Fn(&AppId, RefreshResult) + Send + Sync>;

/// What the refresher lives in.
pub struct Surroundings {
    pub tasks: Tasks,
    /// Ends it; see [`Refresher::start`].
    pub stop: CancellationToken,
}

/// Owns all apps' tokens. [`Refresher::start`] it once per process.
pub struct Refresher {
    pub(super) means: Means,
    pub(super) timing: Timing,
    pub(super) hook: RefreshHook,
    pub(super) entries: HashMap<AppId, TrackedApp>,
    pub(super) states: AppStates,
    pub(super) readings: Readings,
    pub(super) work: FuturesUnordered<BoxFuture<'static, Done>>,
}

/// One app: what is decided, and where it is published.
pub(super) struct TrackedApp {
    pub(super) entry: Entry,
    writer: watch::Sender<AppState>,
    /// The trouble that was logged last, until it is over.
    complaint: Option<String>,
}

/// Work that has come back. Readings say when they began: older news must not overwrite newer.
pub(super) enum Done {
    All { begun: Instant, rows: Result<Vec<AppRow>, db::Error> },
    One { app_id: AppId, begun: Instant, row: Result<Option<AppRow>, db::Error> },
    Refreshed { app_id: AppId, refreshed: Refreshed },
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
            means: Means { db, client, owner: Uuid::new_v4(), lease },
            timing,
            hook,
            entries: HashMap::new(),
            states,
            readings: Readings::default(),
            work: FuturesUnordered::new(),
        };
        (cache, tokio::spawn(refresher.run(listener, requests, around)))
    }

    async fn run(mut self, listener: Listener, mut requests: mpsc::Receiver<Request>, around: Surroundings) {
        let Surroundings { tasks, stop } = around;
        let (tell, mut heard) = mpsc::channel(MAX_HEARD);
        let listening = tasks.guard(Task::TokenListener, listener.run(tell));
        let _listening = AbortOnDropHandle::new(tokio::spawn(listening));
        let mut poll = interval(self.timing.poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            panic_point("refresher");
            self.keep_time(Instant::now());
            let wake_at = self.wake_at();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(done) = self.work.next() => self.finish(done),
                Some(request) = requests.recv() => self.serve(request),
                Some(news) = heard.recv() => self.hear(news),
                _ = poll.tick() => self.read_all(false),
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
            }
        }
        self.finish_refreshes().await;
    }

    /// A classic token that was fetched but not stored would leave the others with a dying one.
    async fn finish_refreshes(&mut self) {
        while self.refreshes() > 0
            && let Some(done) = self.work.next().await
        {
            self.finish(done);
        }
    }

    /// Ends what is over, and begins what is due.
    fn keep_time(&mut self, now: Instant) {
        let mut room = MAX_REFRESHES.saturating_sub(self.refreshes());
        for (app_id, tracked) in &mut self.entries {
            if tracked.entry.expire(now) {
                warn!(%app_id, "the access token expired before a newer one was fetched");
                tracked.publish();
            }
            if room > 0
                && let Some(order) = tracked.entry.order(now)
            {
                room -= 1;
                let (means, app_id) = (self.means.clone(), app_id.clone());
                self.work.push(Box::pin(async move {
                    let refreshed = refresh(&means, &order).await;
                    Done::Refreshed { app_id, refreshed }
                }));
            }
        }
    }

    fn refreshes(&self) -> usize {
        self.entries.values().filter(|tracked| tracked.entry.is_away()).count()
    }

    /// When [`Self::keep_time`] has something to do next. Without room for a refresh, its end is what wakes us.
    fn wake_at(&self) -> Option<Instant> {
        let room = self.refreshes() < MAX_REFRESHES;
        let moments =
            |tracked: &TrackedApp| [tracked.entry.due_at().filter(|_| room), tracked.entry.expires_at()];
        self.entries.values().flat_map(moments).flatten().min()
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::LookUp { app_id, answer } => self.look_up(app_id, answer),
            Request::Rejected { app_id, generation } => self.reject(&app_id, generation),
        }
    }

    fn reject(&mut self, app_id: &AppId, generation: i64) {
        let Some(tracked) = self.entries.get_mut(app_id) else { return };
        if tracked.entry.reject(generation, Instant::now(), &self.timing) {
            warn!(%app_id, generation, "WeChat rejects the access token; fetching a new one");
            tracked.publish();
            (self.hook)(app_id, RefreshResult::Discarded);
        }
    }

    fn hear(&mut self, news: Heard) {
        match news {
            Heard::Listening => self.read_all(true),
            Heard::Stored { app_id, version } => {
                let stale = |tracked: &TrackedApp| tracked.entry.version() < version;
                if self.entries.get(&app_id).is_none_or(stale) {
                    self.read_one(&app_id, true);
                }
            }
            Heard::Changed { app_id } => {
                self.read_one(&app_id, true);
                if let Some(tracked) = self.entries.get_mut(&app_id) {
                    tracked.entry.wake_if_faulty(Instant::now());
                }
            }
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::All { begun, rows } => self.finish_all(begun, rows),
            Done::One { app_id, begun, row } => self.finish_one(&app_id, begun, row),
            Done::Refreshed { app_id, refreshed } => self.finish_refresh(&app_id, refreshed),
        }
    }

    fn finish_refresh(&mut self, app_id: &AppId, refreshed: Refreshed) {
        let Some(tracked) = self.entries.get_mut(app_id) else { return };
        tracked.tell(app_id, &refreshed);
        let result = tracked.entry.settle(refreshed, Instant::now(), &self.timing);
        tracked.publish();
        if let Some(result) = result {
            (self.hook)(app_id, result);
        }
    }
}

impl TrackedApp {
    pub(super) fn new(entry: Entry, states: &AppStates) -> Self {
        let writer = states.open(entry.state());
        Self { entry, writer, complaint: None }
    }

    /// Shows the state to the senders; wakes them only if it is another.
    pub(super) fn publish(&self) {
        let state = self.entry.state();
        self.writer.send_if_modified(|shown| {
            let changed = !shown.same_as(&state);
            if changed {
                *shown = state;
            }
            changed
        });
    }

    /// Logs a trouble when it begins and when it ends; in between it is the same trouble, tried again.
    fn tell(&mut self, app_id: &AppId, refreshed: &Refreshed) {
        match refreshed {
            Refreshed::Stored { .. } | Refreshed::Unsaved { .. } | Refreshed::MovedOn(_)
                if self.complaint.take().is_some() =>
            {
                info!(%app_id, "fetched a new access token; the failure is over");
            }
            Refreshed::Refused { errcode, errmsg } if self.is_new(errcode.to_string()) => {
                error!(%app_id, errcode, errmsg, "WeChat refuses an access token: the app's settings must be fixed");
            }
            Refreshed::RejectedAgain if self.is_new("rejected".to_owned()) => {
                error!(%app_id, "WeChat rejects the access token that it has just issued: the app is paused");
            }
            Refreshed::Sealed(error) if self.is_new(error.to_string()) => {
                error!(%app_id, %error, "cannot decrypt the app's secret: the app waits for the right master key");
            }
            Refreshed::Away(error) if self.is_new(error.to_string()) => {
                warn!(%app_id, %error, "cannot fetch an access token; retrying");
            }
            Refreshed::DatabaseAway(error) if self.is_new("database".to_owned()) => {
                warn!(%app_id, %error, "cannot fetch an access token without the database; retrying");
            }
            _ => {}
        }
    }

    fn is_new(&mut self, complaint: String) -> bool {
        let new = self.complaint.as_ref() != Some(&complaint);
        self.complaint = Some(complaint);
        new
    }
}

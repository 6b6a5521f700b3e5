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

use super::book::{AppState, Pages, TokenBook, Wish};
use super::entry::Entry;
use super::reading::Readings;
use super::refresh::{Means, RefreshResult, Trip, refresh};
use super::timing::Timing;
use crate::db::apps::AppRow;
use crate::db::listen::{Heard, Listener};
use crate::db::{self, Database};
use crate::domain::ids::AppId;
use crate::failpoint::panic_point;
use crate::lifecycle::{Task, Tasks};
use crate::wechat::Client;

/// Trips at once. With WeChat away each takes the whole request timeout, and so many connections are wanted elsewhere.
const MAX_TRIPS: usize = 16;
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
    pub(super) entries: HashMap<AppId, Page>,
    pub(super) pages: Pages,
    pub(super) readings: Readings,
    pub(super) errands: FuturesUnordered<BoxFuture<'static, Done>>,
}

/// One app: what is decided, and where it is published.
pub(super) struct Page {
    pub(super) entry: Entry,
    writer: watch::Sender<AppState>,
    /// The trouble that was logged last, until it is over.
    complaint: Option<String>,
}

/// An errand that has come back. Readings say when they began: older news must not overwrite newer.
pub(super) enum Done {
    All { begun: Instant, rows: Result<Vec<AppRow>, db::Error> },
    One { app_id: AppId, begun: Instant, row: Result<Option<AppRow>, db::Error> },
    Trip { app_id: AppId, trip: Trip },
}

impl Refresher {
    /// Starts the task. It works until the stop, lets the trips under way end, and then ends itself; stop it after the
    /// senders, who need it. Nothing has to be up: it waits for the database, and lookups say so.
    pub fn start(
        db: Database,
        listener: Listener,
        client: Client,
        timing: Timing,
        hook: RefreshHook,
        around: Surroundings,
    ) -> (TokenBook, JoinHandle<()>) {
        let (book, pages, wishes) = TokenBook::new();
        let lease = client.request_timeout() + LEASE_MARGIN;
        let refresher = Self {
            means: Means { db, client, owner: Uuid::new_v4(), lease },
            timing,
            hook,
            entries: HashMap::new(),
            pages,
            readings: Readings::default(),
            errands: FuturesUnordered::new(),
        };
        (book, tokio::spawn(refresher.run(listener, wishes, around)))
    }

    async fn run(mut self, listener: Listener, mut wishes: mpsc::Receiver<Wish>, around: Surroundings) {
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
                Some(done) = self.errands.next() => self.finish(done),
                Some(wish) = wishes.recv() => self.grant(wish),
                Some(news) = heard.recv() => self.hear(news),
                _ = poll.tick() => self.read_all(false),
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
            }
        }
        self.finish_trips().await;
    }

    /// A classic token that was fetched but not stored would leave the others with a dying one.
    async fn finish_trips(&mut self) {
        while self.trips() > 0
            && let Some(done) = self.errands.next().await
        {
            self.finish(done);
        }
    }

    /// Ends what is over, and begins what is due.
    fn keep_time(&mut self, now: Instant) {
        let mut room = MAX_TRIPS.saturating_sub(self.trips());
        for (app_id, page) in &mut self.entries {
            if page.entry.expire(now) {
                warn!(%app_id, "the access token has expired before there was a newer one");
                page.publish();
            }
            if room > 0
                && let Some(order) = page.entry.order(now)
            {
                room -= 1;
                let (means, app_id) = (self.means.clone(), app_id.clone());
                self.errands.push(Box::pin(async move {
                    let trip = refresh(&means, &order).await;
                    Done::Trip { app_id, trip }
                }));
            }
        }
    }

    fn trips(&self) -> usize {
        self.entries.values().filter(|page| page.entry.is_away()).count()
    }

    /// When [`Self::keep_time`] has something to do next. Without room for a trip, its end is what wakes us.
    fn wake_at(&self) -> Option<Instant> {
        let room = self.trips() < MAX_TRIPS;
        let moments = |page: &Page| [page.entry.due_at().filter(|_| room), page.entry.expires_at()];
        self.entries.values().flat_map(moments).flatten().min()
    }

    fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::LookUp { app_id, answer } => self.look_up(app_id, answer),
            Wish::Rejected { app_id, generation } => self.reject(&app_id, generation),
        }
    }

    fn reject(&mut self, app_id: &AppId, generation: i64) {
        let Some(page) = self.entries.get_mut(app_id) else { return };
        if page.entry.reject(generation, Instant::now(), &self.timing) {
            warn!(%app_id, generation, "WeChat rejects the access token; fetching another");
            page.publish();
            (self.hook)(app_id, RefreshResult::Discarded);
        }
    }

    fn hear(&mut self, news: Heard) {
        match news {
            Heard::Listening => self.read_all(true),
            Heard::Stored { app_id, version } => {
                let stale = |page: &Page| page.entry.version() < version;
                if self.entries.get(&app_id).is_none_or(stale) {
                    self.read_one(&app_id, true);
                }
            }
            Heard::Changed { app_id } => {
                self.read_one(&app_id, true);
                if let Some(page) = self.entries.get_mut(&app_id) {
                    page.entry.wake_if_faulty(Instant::now());
                }
            }
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::All { begun, rows } => self.finish_all(begun, rows),
            Done::One { app_id, begun, row } => self.finish_one(&app_id, begun, row),
            Done::Trip { app_id, trip } => self.finish_trip(&app_id, trip),
        }
    }

    fn finish_trip(&mut self, app_id: &AppId, trip: Trip) {
        let Some(page) = self.entries.get_mut(app_id) else { return };
        page.tell(app_id, &trip);
        let result = page.entry.settle(trip, Instant::now(), &self.timing);
        page.publish();
        if let Some(result) = result {
            (self.hook)(app_id, result);
        }
    }
}

impl Page {
    pub(super) fn new(entry: Entry, pages: &Pages) -> Self {
        let writer = pages.open(entry.state());
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
    fn tell(&mut self, app_id: &AppId, trip: &Trip) {
        match trip {
            Trip::Stored { .. } | Trip::Unsaved { .. } | Trip::MovedOn(_)
                if self.complaint.take().is_some() =>
            {
                info!(%app_id, "there is a fresh access token again");
            }
            Trip::Refused { errcode, errmsg } if self.is_new(errcode.to_string()) => {
                error!(%app_id, errcode, errmsg, "WeChat refuses an access token: the app's settings need mending");
            }
            Trip::RejectedAgain if self.is_new("rejected".to_owned()) => {
                error!(%app_id, "WeChat rejects the access token that it hands out: the app is paused");
            }
            Trip::Sealed(error) if self.is_new(error.to_string()) => {
                error!(%app_id, %error, "the app's secret cannot be opened: the app waits for the right master key");
            }
            Trip::Away(error) if self.is_new(error.to_string()) => {
                warn!(%app_id, %error, "no fresh access token for now; trying again");
            }
            Trip::DatabaseAway(error) if self.is_new("database".to_owned()) => {
                warn!(%app_id, %error, "no fresh access token without the database; trying again");
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

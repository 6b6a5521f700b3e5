//! How rows become known: all of them by polling, one of them when it is asked for or announced.

use std::collections::HashMap;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tracing::debug;

use super::cache::{Answer, Lookup, LookupError};
use super::tracked::TrackedApps;
use crate::db::registry::apps::{self, AppRow};
use crate::db::{self, Database};
use crate::domain::ids::AppId;

/// Reads rows, each of them once at a time however many ask.
pub(super) struct Readings {
    db: Database,
    queries: FuturesUnordered<BoxFuture<'static, Read>>,
    one_by_one: HashMap<AppId, Reading>,
    all: Option<Reading>,
}

/// One query under way.
#[derive(Default)]
struct Reading {
    waiting: Vec<Answer>,
    /// It began too early to show what was announced since: read once more after it.
    again: bool,
}

/// A query that has ended. It says when it began: older news must not overwrite newer.
pub(super) enum Read {
    All { begun: Instant, rows: Result<Vec<AppRow>, db::Error> },
    One { app_id: AppId, begun: Instant, row: Result<Option<AppRow>, db::Error> },
}

impl Readings {
    pub(super) fn new(db: Database) -> Self {
        Self { db, queries: FuturesUnordered::new(), one_by_one: HashMap::new(), all: None }
    }

    /// The next query to end. `None` while none is under way. Safe to drop and call again.
    pub(super) async fn next(&mut self) -> Option<Read> {
        self.queries.next().await
    }

    /// Applies the result of a query, and answers the requests that wait for it.
    pub(super) fn finish(&mut self, read: Read, apps: &mut TrackedApps) {
        match read {
            Read::All { begun, rows } => self.finish_all(begun, rows, apps),
            Read::One { app_id, begun, row } => self.finish_one(&app_id, begun, row, apps),
        }
    }

    /// Answers at once if the app is known, otherwise when its row was read. A missing row is not remembered: an event for an unknown
    /// app becomes a dead letter, which costs more than a query, and a newly registered app must work at once.
    pub(super) fn look_up(&mut self, app_id: AppId, answer: Answer, apps: &TrackedApps) {
        if let Some(tracked) = apps.states.read(&app_id) {
            // The caller may have given up meanwhile.
            let _ = answer.send(Ok(Lookup::Known(tracked)));
            return;
        }
        self.read_one(&app_id, false);
        self.one_by_one.entry(app_id).or_default().waiting.push(answer);
    }

    /// Reads every row. `afresh`: if that is being done, once more after it.
    pub(super) fn read_all(&mut self, afresh: bool) {
        if let Some(reading) = &mut self.all {
            reading.again |= afresh;
            return;
        }
        self.all = Some(Reading::default());
        let db = self.db.clone();
        self.queries.push(Box::pin(async move {
            let begun = Instant::now();
            Read::All { begun, rows: apps::all(&db).await }
        }));
    }

    /// Reads one row. `afresh`: if that is being done, once more after it.
    pub(super) fn read_one(&mut self, app_id: &AppId, afresh: bool) {
        if let Some(reading) = self.one_by_one.get_mut(app_id) {
            reading.again |= afresh;
            return;
        }
        self.one_by_one.insert(app_id.clone(), Reading::default());
        let (db, app_id) = (self.db.clone(), app_id.clone());
        self.queries.push(Box::pin(async move {
            let begun = Instant::now();
            let row = apps::one(&db, &app_id).await;
            Read::One { app_id, begun, row }
        }));
    }

    fn finish_all(&mut self, begun: Instant, rows: Result<Vec<AppRow>, db::Error>, apps: &mut TrackedApps) {
        if self.all.take().is_some_and(|reading| reading.again) {
            self.read_all(false);
        }
        match rows {
            Ok(rows) => apps.learn_all(rows, begun),
            // Other parts meet the same error and report it; nothing is lost by waiting here.
            Err(error) => debug!(%error, "cannot read the apps; using those already known"),
        }
    }

    fn finish_one(
        &mut self,
        app_id: &AppId,
        begun: Instant,
        row: Result<Option<AppRow>, db::Error>,
        apps: &mut TrackedApps,
    ) {
        let reading = self.one_by_one.remove(app_id).unwrap_or_default();
        if reading.again {
            self.read_one(app_id, false);
        }
        let away = apps.learn_one(app_id, begun, row).err();
        for answer in reading.waiting {
            let lookup = match (&away, apps.states.read(app_id)) {
                (_, Some(tracked)) => Ok(Lookup::Known(tracked)),
                (None, None) => Ok(Lookup::Unknown),
                (Some(error), None) => Err(LookupError(error.to_string())),
            };
            let _ = answer.send(lookup);
        }
    }
}

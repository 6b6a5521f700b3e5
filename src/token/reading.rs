//! How rows become known: all of them by the clock, one of them when somebody asks or something was announced.

use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{HashMap, HashSet};

use tokio::time::Instant;
use tracing::{debug, warn};

use super::cache::{Answer, Lookup, LookupError};
use super::entry::Entry;
use super::refresher::{Done, Refresher, TrackedApp};
use crate::db;
use crate::db::registry::live_apps::{self, AppRow};
use crate::domain::ids::AppId;

/// What is being read.
#[derive(Default)]
pub(super) struct Readings {
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

impl Refresher {
    /// Answers at once what is at hand, else when the row was read. That an app had no row is not remembered: whoever names
    /// one gets a dead letter, which costs more than a look, and a registered app is to work at once.
    pub(super) fn look_up(&mut self, app_id: AppId, answer: Answer) {
        if let Some(tracked) = self.states.read(&app_id) {
            // Whoever asked may have given up meanwhile.
            let _ = answer.send(Ok(Lookup::Known(tracked)));
            return;
        }
        self.read_one(&app_id, false);
        self.readings.one_by_one.entry(app_id).or_default().waiting.push(answer);
    }

    /// Reads every row. `afresh`: if that is being done, once more after it.
    pub(super) fn read_all(&mut self, afresh: bool) {
        if let Some(reading) = &mut self.readings.all {
            reading.again |= afresh;
            return;
        }
        self.readings.all = Some(Reading::default());
        let db = self.means.db.clone();
        self.work.push(Box::pin(async move {
            let begun = Instant::now();
            Done::All { begun, rows: live_apps::all(&db).await }
        }));
    }

    /// Reads one row. `afresh`: if that is being done, once more after it.
    pub(super) fn read_one(&mut self, app_id: &AppId, afresh: bool) {
        if let Some(reading) = self.readings.one_by_one.get_mut(app_id) {
            reading.again |= afresh;
            return;
        }
        self.readings.one_by_one.insert(app_id.clone(), Reading::default());
        let (db, app_id) = (self.means.db.clone(), app_id.clone());
        self.work.push(Box::pin(async move {
            let begun = Instant::now();
            let row = live_apps::one(&db, &app_id).await;
            Done::One { app_id, begun, row }
        }));
    }

    pub(super) fn finish_all(&mut self, begun: Instant, rows: Result<Vec<AppRow>, db::Error>) {
        if self.readings.all.take().is_some_and(|reading| reading.again) {
            self.read_all(false);
        }
        match rows {
            Ok(rows) => {
                let seen = rows.into_iter().map(|row| self.learn(row, begun)).collect();
                self.forget_all_but(&seen, begun);
            }
            // Whoever needs the database meets the same and says so; here nothing is lost by waiting.
            Err(error) => debug!(%error, "cannot read the apps; using those already known"),
        }
    }

    pub(super) fn finish_one(
        &mut self,
        app_id: &AppId,
        begun: Instant,
        row: Result<Option<AppRow>, db::Error>,
    ) {
        let reading = self.readings.one_by_one.remove(app_id).unwrap_or_default();
        if reading.again {
            self.read_one(app_id, false);
        }
        let away = self.take_in(app_id, begun, row).err();
        for answer in reading.waiting {
            let lookup = match (&away, self.states.read(app_id)) {
                (_, Some(tracked)) => Ok(Lookup::Known(tracked)),
                (None, None) => Ok(Lookup::Unknown),
                (Some(error), None) => Err(LookupError(error.to_string())),
            };
            let _ = answer.send(lookup);
        }
    }

    /// Fails only where the database could not be asked. A row that cannot be read is as good as none: asking again
    /// would not help.
    fn take_in(
        &mut self,
        app_id: &AppId,
        begun: Instant,
        row: Result<Option<AppRow>, db::Error>,
    ) -> Result<(), db::Error> {
        match row {
            Ok(Some(row)) => drop(self.learn(row, begun)),
            Err(error) if !matches!(error, db::Error::Unreadable { .. }) => return Err(error),
            missing => {
                if let Err(error) = missing {
                    warn!(%app_id, %error, "cannot read the app's row; the app is treated as unknown");
                }
                self.forget(app_id, begun);
            }
        }
        Ok(())
    }

    /// Takes in one row, of an app known or new.
    fn learn(&mut self, row: AppRow, begun: Instant) -> AppId {
        let (app_id, now) = (row.app.app_id.clone(), Instant::now());
        let tracked = match self.entries.entry(app_id.clone()) {
            Occupied(known) => known.into_mut(),
            Vacant(new) => new.insert(TrackedApp::new(Entry::new(&row.app, begun, now), &self.states)),
        };
        let result = tracked.entry.learn(row, begun, now, &self.timing);
        tracked.publish();
        if let Some(result) = result {
            (self.hook)(&app_id, result);
        }
        app_id
    }

    fn forget_all_but(&mut self, seen: &HashSet<AppId>, begun: Instant) {
        let gone: Vec<AppId> =
            self.entries.keys().filter(|app_id| !seen.contains(*app_id)).cloned().collect();
        for app_id in gone {
            self.forget(&app_id, begun);
        }
    }

    /// The row was not there when the query began, unless somebody else saw it later.
    fn forget(&mut self, app_id: &AppId, begun: Instant) {
        if self.entries.get(app_id).is_some_and(|tracked| tracked.entry.told_at() < begun) {
            self.entries.remove(app_id);
            self.states.close(app_id);
        }
    }
}

//! The apps that are known: what is decided about each, and where senders read it.

use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::cache::{AppState, AppStates};
use super::entry::Entry;
use super::refresh::{RefreshResult, Refreshed};
use super::timing::Timing;
use crate::db;
use crate::db::registry::apps::AppRow;
use crate::domain::ids::AppId;

/// Called with every result.
pub type RefreshHook = Arc<dyn Fn(&AppId, RefreshResult) + Send + Sync>;

/// Every app that is known.
pub(super) struct TrackedApps {
    pub(super) apps: HashMap<AppId, TrackedApp>,
    pub(super) states: AppStates,
    pub(super) timing: Timing,
    pub(super) hook: RefreshHook,
}

/// One app: what is decided, and where it is published.
pub(super) struct TrackedApp {
    pub(super) entry: Entry,
    writer: watch::Sender<AppState>,
    /// The failure that was logged last, until it is over.
    complaint: Option<String>,
}

impl TrackedApps {
    pub(super) fn new(states: AppStates, timing: Timing, hook: RefreshHook) -> Self {
        Self { apps: HashMap::new(), states, timing, hook }
    }

    /// Takes in the rows of all apps, and forgets those that have none any more.
    pub(super) fn learn_all(&mut self, rows: Vec<AppRow>, begun: Instant) {
        let seen: HashSet<AppId> = rows.into_iter().map(|row| self.learn(row, begun)).collect();
        let gone: Vec<AppId> = self.apps.keys().filter(|app_id| !seen.contains(*app_id)).cloned().collect();
        for app_id in gone {
            self.forget(&app_id, begun);
        }
    }

    /// Fails only where the database could not be asked. A row that cannot be read is as good as none: asking again
    /// would not help.
    pub(super) fn learn_one(
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
        let tracked = match self.apps.entry(app_id.clone()) {
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

    /// The row was not there when the query began, unless somebody else saw it later.
    fn forget(&mut self, app_id: &AppId, begun: Instant) {
        if self.apps.get(app_id).is_some_and(|tracked| tracked.entry.told_at() < begun) {
            self.apps.remove(app_id);
            self.states.close(app_id);
        }
    }

    /// WeChat rejected the token of this generation.
    pub(super) fn reject(&mut self, app_id: &AppId, generation: i64) {
        let Some(tracked) = self.apps.get_mut(app_id) else { return };
        if tracked.entry.reject(generation, Instant::now(), &self.timing) {
            warn!(%app_id, generation, "WeChat rejects the access token; fetching a new one");
            tracked.publish();
            (self.hook)(app_id, RefreshResult::Discarded);
        }
    }

    /// A refresh has ended.
    pub(super) fn settle(&mut self, app_id: &AppId, refreshed: Refreshed) {
        let Some(tracked) = self.apps.get_mut(app_id) else { return };
        tracked.log(app_id, &refreshed);
        let result = tracked.entry.settle(refreshed, Instant::now(), &self.timing);
        tracked.publish();
        if let Some(result) = result {
            (self.hook)(app_id, result);
        }
    }
}

impl TrackedApp {
    fn new(entry: Entry, states: &AppStates) -> Self {
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

    /// Logs a failure when it begins and when it ends; in between it is the same failure, retried.
    fn log(&mut self, app_id: &AppId, refreshed: &Refreshed) {
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

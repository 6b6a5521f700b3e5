//! What is known and decided about one app. No I/O: the clock's reading comes in, orders and states go out.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::cache::{AppState, FaultReason, TokenState};
use super::refresh::{Fresh, Order, RefreshResult};
use super::rejections::Rejections;
use super::timing::Timing;
use crate::db::registry::apps::{App, AppRow};
use crate::delays::Delays;
use crate::wechat::AccessToken;

/// Below the version of any row, so that the first reading is news.
const NO_VERSION: i64 = -1;

/// One app: its settings, its token, its failures.
pub(super) struct Entry {
    pub(super) app: Arc<App>,
    /// When the query began that told us the settings; older news is ignored.
    pub(super) told_at: Instant,
    /// The row's `token_version`, as far as we know.
    pub(super) version: i64,
    pub(super) token: Option<Held>,
    pub(super) fault: Option<Fault>,
    pub(super) rejections: Rejections,
    /// When the next refresh is to begin.
    pub(super) due: Instant,
    /// The refresh under way.
    pub(super) order: Option<Order>,
    pub(super) refusals: Delays,
    pub(super) absences: Delays,
}

pub(super) struct Held {
    pub(super) access: Arc<AccessToken>,
    pub(super) since: Instant,
    /// From here on a newer one is wanted.
    pub(super) refresh_at: Instant,
    pub(super) expires_at: Instant,
    pub(super) unsaved: bool,
}

pub(super) struct Fault {
    pub(super) reason: FaultReason,
    pub(super) errcode: i64,
    pub(super) errmsg: String,
    pub(super) since: Timestamp,
}

impl Entry {
    /// An app seen for the first time, by a query that began at `told_at`; its token is still to be [learned](Self::learn).
    pub(super) fn new(app: &App, told_at: Instant, now: Instant) -> Self {
        Self {
            app: Arc::new(app.clone()),
            told_at,
            version: NO_VERSION,
            token: None,
            fault: None,
            rejections: Rejections::none(),
            due: now,
            order: None,
            refusals: Delays::endpoint_refuses(),
            absences: Delays::endpoint_away(),
        }
    }

    /// What senders are to see.
    pub(super) fn state(&self) -> AppState {
        AppState { app: self.app.clone(), token: self.token_state() }
    }

    fn token_state(&self) -> TokenState {
        match (&self.token, &self.fault) {
            _ if !self.app.active => TokenState::Waiting,
            (Some(held), _) => TokenState::Ready(held.access.clone()),
            (None, None) => TokenState::Waiting,
            (None, Some(fault)) => TokenState::Faulty {
                reason: fault.reason,
                errcode: fault.errcode,
                errmsg: fault.errmsg.clone(),
                since: fault.since,
            },
        }
    }

    /// The version we know of.
    pub(super) fn version(&self) -> i64 {
        self.version
    }

    /// When the app was last read.
    pub(super) fn told_at(&self) -> Instant {
        self.told_at
    }

    /// When [`Self::order`] would give an order.
    pub(super) fn due_at(&self) -> Option<Instant> {
        (self.app.active && self.order.is_none()).then_some(self.due)
    }

    /// When the token in use ends.
    pub(super) fn expires_at(&self) -> Option<Instant> {
        self.token.as_ref().map(|held| held.expires_at)
    }

    /// Drops a token that is over. True if somebody may miss it.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let over = self.token.as_ref().is_some_and(|held| held.expires_at <= now);
        if over {
            self.token = None;
            self.due = self.due.min(now);
        }
        over && self.app.active
    }

    /// Asks for a refresh as soon as possible.
    pub(super) fn wake(&mut self, now: Instant) {
        self.due = now;
        if let Some(held) = &mut self.token {
            held.refresh_at = now;
        }
    }

    /// Somebody worked on the row: what was refused may go well now.
    pub(super) fn wake_if_faulty(&mut self, now: Instant) {
        if self.fault.is_some() {
            self.wake(now);
        }
    }

    /// The next refresh, if its time has come. No other is given before it is settled.
    pub(super) fn order(&mut self, now: Instant) -> Option<Order> {
        if self.due_at().is_none_or(|due| due > now) {
            return None;
        }
        let unsaved = self.token.as_ref().filter(|held| held.unsaved && now < held.refresh_at);
        let order = Order {
            app: self.app.clone(),
            version: self.version,
            unsaved: unsaved
                .map(|held| Fresh { value: held.access.value().clone(), expires_at: held.expires_at }),
            barred: self.rejections.barred().cloned(),
        };
        self.order = Some(order.clone());
        Some(order)
    }

    /// The row was read, by a query that began at `told_at`.
    pub(super) fn learn(
        &mut self,
        row: AppRow,
        told_at: Instant,
        now: Instant,
        timing: &Timing,
    ) -> Option<RefreshResult> {
        if told_at < self.told_at {
            return None;
        }
        self.told_at = told_at;
        self.take_settings(&row.app, now);
        (row.token_version > self.version).then(|| self.adopt(row, now, timing)).flatten()
    }

    pub(super) fn take_settings(&mut self, app: &App, now: Instant) {
        if self.app.asks_differently_than(app) {
            // The cause may be fixed.
            self.fault = None;
            self.refusals.reset();
            self.absences.reset();
            if self.token.is_none() {
                self.due = now;
            }
        }
        if *self.app != *app {
            self.app = Arc::new(app.clone());
        }
    }

    /// Takes over what another process, or an earlier life of this one, stored.
    pub(super) fn adopt(&mut self, row: AppRow, now: Instant, timing: &Timing) -> Option<RefreshResult> {
        self.version = row.token_version;
        let Some(stored) = row.token else {
            self.due = now;
            return self.token.take().map(|_| RefreshResult::Discarded);
        };
        let value = match stored.value {
            Ok(value) => value,
            // The token we hold, if any, lasts as long as it lasts.
            Err(error) => {
                self.wait_for_key(&error, now);
                return Some(RefreshResult::Sealed);
            }
        };
        if self.rejections.bars(&value) {
            self.bar(now);
            return Some(RefreshResult::Rejected);
        }
        let token = Fresh { value, expires_at: now + stored.expires_in };
        self.hold(token, row.token_version, now, timing);
        Some(RefreshResult::Adopted { expires_in: stored.expires_in })
    }

    /// WeChat rejected the token of this generation. False if that token is no longer in use.
    pub(super) fn reject(&mut self, generation: i64, now: Instant, timing: &Timing) -> bool {
        let Some(held) = self.token.take_if(|held| held.access.generation() == generation) else {
            return false;
        };
        let young = now - held.since < timing.young;
        self.due = now + self.rejections.note(held.access.value(), young);
        true
    }
}

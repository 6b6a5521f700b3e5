//! What is known and decided about one app. No I/O: the clock's reading comes in, orders and states go out.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::book::{AppState, FaultReason, TokenState};
use super::refresh::{Fresh, Order, RefreshResult, Trip};
use super::timing::Timing;
use crate::clock;
use crate::db::apps::{App, AppRow};
use crate::delays::Delays;
use crate::wechat::AccessToken;

/// WeChat's code for "this token is not valid", shown where it rejects what it gave.
const TOKEN_INVALID: i64 = 40001;
/// How often one and the same token may be rejected before it is barred: once can be a slow corner of WeChat's.
const REJECTIONS_OF_ONE_TOKEN: u32 = 2;
/// Rejections of young tokens that are answered at once; from then on a fetch has to wait.
const QUICK_FETCHES: u32 = 2;
/// How soon a token that could not be stored is tried again.
const SAVE_AGAIN: Duration = Duration::from_secs(2);
/// Whatever the dice say, a refusal is not followed by the next try sooner than this.
const LEAST_REFUSAL_DELAY: Duration = Duration::from_secs(5);
/// While another process refreshes and our token is still good, there is no hurry to look.
const LEASED_LOOK: Duration = Duration::from_secs(2);

/// One app: its settings, its token, its troubles.
pub(super) struct Entry {
    app: Arc<App>,
    /// When the query began that told us the settings; older news is ignored.
    told_at: Instant,
    /// The row's `token_version`, as far as we know.
    version: i64,
    token: Option<Held>,
    fault: Option<Fault>,
    /// The last token that WeChat rejected.
    rejected: Option<Rejected>,
    /// Rejections in a row of tokens that had hardly been used.
    young_rejections: u32,
    /// When the next trip is to begin.
    due: Instant,
    /// The trip under way.
    order: Option<Order>,
    refusals: Delays,
    absences: Delays,
    paces: Delays,
}

struct Held {
    access: Arc<AccessToken>,
    since: Instant,
    /// From here on a newer one is wanted.
    refresh_at: Instant,
    expires_at: Instant,
    unsaved: bool,
}

struct Rejected {
    value: SecretString,
    times: u32,
}

struct Fault {
    reason: FaultReason,
    errcode: i64,
    errmsg: String,
    since: Timestamp,
}

impl Entry {
    /// An app that was just read; `told_at` is when the query began.
    pub(super) fn new(row: AppRow, told_at: Instant, now: Instant, timing: &Timing) -> Self {
        let mut entry = Self {
            app: Arc::new(row.app.clone()),
            told_at,
            version: row.token_version,
            token: None,
            fault: None,
            rejected: None,
            young_rejections: 0,
            due: now,
            order: None,
            refusals: Delays::endpoint_refuses(),
            absences: Delays::endpoint_away(),
            paces: Delays::endpoint_refuses(),
        };
        entry.adopt(row, now, timing);
        entry
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

    /// Is a trip under way?
    pub(super) fn is_away(&self) -> bool {
        self.order.is_some()
    }

    /// When [`Self::order`] would give an order.
    pub(super) fn due_at(&self) -> Option<Instant> {
        (self.app.active && self.order.is_none()).then_some(self.due)
    }

    /// When the token in use ends.
    pub(super) fn expires_at(&self) -> Option<Instant> {
        self.token.as_ref().map(|held| held.expires_at)
    }

    /// Drops a token that is over. True if there was one.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let over = self.token.as_ref().is_some_and(|held| held.expires_at <= now);
        if over {
            self.token = None;
            self.due = self.due.min(now);
        }
        over
    }

    /// Asks for a trip as soon as possible.
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

    /// The next trip, if its time has come. No other is given before it is settled.
    pub(super) fn order(&mut self, now: Instant) -> Option<Order> {
        if self.due_at().is_none_or(|due| due > now) {
            return None;
        }
        let unsaved = self.token.as_ref().filter(|held| held.unsaved && now < held.refresh_at);
        let barred = self.rejected.as_ref().filter(|rejected| rejected.times >= REJECTIONS_OF_ONE_TOKEN);
        let order = Order {
            app: self.app.clone(),
            version: self.version,
            unsaved: unsaved
                .map(|held| Fresh { value: held.access.value().clone(), expires_at: held.expires_at }),
            barred: barred.map(|rejected| rejected.value.clone()),
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

    fn take_settings(&mut self, app: &App, now: Instant) {
        if self.app.asks_differently_than(app) {
            // Whatever was wrong may be mended.
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
    fn adopt(&mut self, row: AppRow, now: Instant, timing: &Timing) -> Option<RefreshResult> {
        self.version = row.token_version;
        let Some(stored) = row.token else {
            self.token = None;
            self.due = now;
            return None;
        };
        if self.is_barred(&stored.value) {
            self.bar(now);
            return Some(RefreshResult::Rejected);
        }
        let token = Fresh { value: stored.value, expires_at: now + stored.expires_in };
        self.hold(token, row.token_version, now, timing);
        Some(RefreshResult::Adopted { expires_in: stored.expires_in })
    }

    /// WeChat rejected the token of this generation. False if that token is no longer in use.
    pub(super) fn reject(&mut self, generation: i64, now: Instant, timing: &Timing) -> bool {
        let Some(held) = self.token.take_if(|held| held.access.generation() == generation) else {
            return false;
        };
        let times = match &self.rejected {
            Some(rejected) if same(&rejected.value, held.access.value()) => rejected.times + 1,
            _ => 1,
        };
        self.rejected = Some(Rejected { value: held.access.value().clone(), times });
        self.due = now + self.pace(now - held.since < timing.young, times);
        true
    }

    /// How long to wait after a rejection. A third party that keeps replacing the token would else have us fetch
    /// without end, and the day's quota with it.
    fn pace(&mut self, young: bool, times: u32) -> Duration {
        if !young {
            self.young_rejections = 0;
            self.paces.reset();
            return Duration::ZERO;
        }
        self.young_rejections += 1;
        // The same token again ends in a fault, which has its own delays.
        if self.young_rejections <= QUICK_FETCHES || times >= REJECTIONS_OF_ONE_TOKEN {
            return Duration::ZERO;
        }
        slow(&mut self.paces)
    }

    /// The trip is over.
    pub(super) fn settle(&mut self, trip: Trip, now: Instant, timing: &Timing) -> Option<RefreshResult> {
        let order = self.order.take()?;
        match trip {
            Trip::Stored { token, version } => {
                self.version = version;
                Some(self.take(token, version, now, timing))
            }
            Trip::Unsaved { token } => Some(self.take_unsaved(token, now, timing)),
            Trip::MovedOn(row) => self.follow(&order, *row, now, timing),
            Trip::Leased => {
                self.due = now + if self.token.is_some() { LEASED_LOOK } else { timing.peek };
                None
            }
            // The question was put with settings of yesterday: ask again.
            Trip::Refused { .. } | Trip::RejectedAgain if order.app.asks_differently_than(&self.app) => {
                self.due = now;
                None
            }
            Trip::RejectedAgain => {
                self.bar(now);
                Some(RefreshResult::Rejected)
            }
            Trip::Refused { errcode, errmsg } => {
                self.raise(FaultReason::TokenRefused, errcode, errmsg);
                self.due = now + slow(&mut self.refusals);
                Some(RefreshResult::Refused)
            }
            Trip::Away(_) | Trip::DatabaseAway(_) => {
                self.due = now + self.absences.next().unwrap_or(SAVE_AGAIN);
                Some(RefreshResult::Away)
            }
        }
    }

    fn take(&mut self, token: Fresh, version: i64, now: Instant, timing: &Timing) -> RefreshResult {
        let expires_in = token.expires_at.saturating_duration_since(now);
        self.hold(token, version, now, timing);
        RefreshResult::Fetched { expires_in }
    }

    /// In memory only. It counts as the version it will be stored under, so that storing it later changes nothing.
    fn take_unsaved(&mut self, token: Fresh, now: Instant, timing: &Timing) -> RefreshResult {
        let result = self.take(token, self.version + 1, now, timing);
        self.due = now + SAVE_AGAIN;
        if let Some(held) = &mut self.token {
            held.unsaved = true;
        }
        result
    }

    /// The row was at another version than ordered. Back counts too: a restored backup has older ones.
    fn follow(&mut self, order: &Order, row: AppRow, now: Instant, timing: &Timing) -> Option<RefreshResult> {
        self.take_settings(&row.app, now);
        if self.version == order.version || row.token_version > self.version {
            return self.adopt(row, now, timing);
        }
        None
    }

    fn hold(&mut self, token: Fresh, generation: i64, now: Instant, timing: &Timing) {
        if !self.rejected.as_ref().is_some_and(|rejected| same(&rejected.value, &token.value)) {
            self.refusals.reset();
        }
        self.absences.reset();
        self.fault = None;
        let left = token.expires_at.saturating_duration_since(now);
        self.due = now + timing.refresh_in(self.app.token_api, left);
        self.token = Some(Held {
            access: Arc::new(AccessToken::new(token.value, generation)),
            since: now,
            refresh_at: self.due,
            expires_at: token.expires_at,
            unsaved: false,
        });
    }

    fn is_barred(&self, value: &SecretString) -> bool {
        self.rejected
            .as_ref()
            .is_some_and(|rejected| rejected.times >= REJECTIONS_OF_ONE_TOKEN && same(&rejected.value, value))
    }

    /// WeChat hands out what it rejects. After a while the token is handed out once more: that is the probe.
    fn bar(&mut self, now: Instant) {
        self.token = None;
        if let Some(rejected) = &mut self.rejected {
            rejected.times = REJECTIONS_OF_ONE_TOKEN - 1;
        }
        let errmsg = "WeChat rejects the token that it hands out".to_owned();
        self.raise(FaultReason::TokenRejected, TOKEN_INVALID, errmsg);
        self.due = now + slow(&mut self.refusals);
    }

    /// The same trouble as before keeps its beginning.
    fn raise(&mut self, reason: FaultReason, errcode: i64, errmsg: String) {
        let since = match &self.fault {
            Some(fault) if fault.reason == reason && fault.errcode == errcode => fault.since,
            _ => clock::now(),
        };
        self.fault = Some(Fault { reason, errcode, errmsg, since });
    }
}

fn slow(delays: &mut Delays) -> Duration {
    delays.next().unwrap_or_default().max(LEAST_REFUSAL_DELAY)
}

fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

//! What the end of a refresh means for the app.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cache::FaultReason;
use super::entry::{Entry, Fault, Held};
use super::refresh::{Fresh, Order, RefreshResult, Refreshed};
use super::rejections::slow;
use super::timing::Timing;
use crate::clock;
use crate::db::registry::apps::AppRow;
use crate::sealing::OpenError;
use crate::wechat::AccessToken;

/// WeChat's code for "this token is not valid", shown where it rejects what it gave.
const TOKEN_INVALID: i64 = 40001;
/// In the place of WeChat's code, where WeChat was not asked.
const NOT_ASKED: i64 = 0;
/// How soon a token that could not be stored is tried again.
const SAVE_AGAIN: Duration = Duration::from_secs(2);
/// While another process refreshes and our token is still good, there is no hurry to look.
const LEASED_LOOK: Duration = Duration::from_secs(2);

impl Entry {
    /// The refresh is over.
    pub(super) fn settle(
        &mut self,
        refreshed: Refreshed,
        now: Instant,
        timing: &Timing,
    ) -> Option<RefreshResult> {
        let order = self.order.take()?;
        match refreshed {
            Refreshed::Stored { token, version } => {
                self.version = version;
                Some(self.take(token, version, now, timing))
            }
            Refreshed::Unsaved { token } => Some(self.take_unsaved(token, now, timing)),
            Refreshed::MovedOn(row) => self.follow(&order, *row, now, timing),
            Refreshed::Leased => {
                self.due = now + if self.token.is_some() { LEASED_LOOK } else { timing.peek };
                None
            }
            // The question was put with settings of yesterday: ask again.
            Refreshed::Refused { .. }
            | Refreshed::RejectedAgain
            | Refreshed::Sealed(_)
            | Refreshed::Away(_)
                if order.app.asks_differently_than(&self.app) =>
            {
                self.due = now;
                None
            }
            Refreshed::RejectedAgain => {
                self.bar(now);
                Some(RefreshResult::Rejected)
            }
            Refreshed::Refused { errcode, errmsg } => {
                self.raise(FaultReason::TokenRefused, errcode, errmsg);
                self.due = now + slow(&mut self.refusals);
                Some(RefreshResult::Refused)
            }
            Refreshed::Sealed(error) => {
                self.wait_for_key(&error, now);
                Some(RefreshResult::Sealed)
            }
            Refreshed::Away(_) | Refreshed::DatabaseAway(_) => {
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
        // A row can hold any number; the end of them must not take the other apps' tokens along.
        let result = self.take(token, self.version.saturating_add(1), now, timing);
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

    pub(super) fn hold(&mut self, token: Fresh, generation: i64, now: Instant, timing: &Timing) {
        if !self.rejections.last_was(&token.value) {
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

    /// WeChat hands out what it rejects. After a while the token is handed out once more: that is the probe.
    pub(super) fn bar(&mut self, now: Instant) {
        self.token = None;
        self.rejections.allow_probe();
        let errmsg = "WeChat rejects the token that it has just issued".to_owned();
        self.raise(FaultReason::TokenRejected, TOKEN_INVALID, errmsg);
        self.due = now + slow(&mut self.refusals);
    }

    /// Neither secret nor token is of use here. Trying again slowly ends well once a row with our key's, or a plain one,
    /// is there; quickly, two processes with different keys would ask WeChat in turns without end.
    pub(super) fn wait_for_key(&mut self, error: &OpenError, now: Instant) {
        self.raise(FaultReason::Sealed, NOT_ASKED, error.to_string());
        self.due = now + slow(&mut self.refusals);
    }

    /// The same failure as before keeps its start time.
    fn raise(&mut self, reason: FaultReason, errcode: i64, errmsg: String) {
        let since = match &self.fault {
            Some(fault) if fault.reason == reason && fault.errcode == errcode => fault.since,
            _ => clock::now(),
        };
        self.fault = Some(Fault { reason, errcode, errmsg, since });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::registry::apps::{App, StoredToken};
    use crate::domain::app::TokenApi;
    use crate::domain::ids::AppId;

    fn row(version: i64, token: Option<&str>, secret: &str) -> AppRow {
        let app = App {
            app_id: AppId::parse("wx1").unwrap(),
            app_name: None,
            company_no: None,
            secret: Ok(secret.into()),
            token_api: TokenApi::Stable,
            miniprogram_state: "formal".to_owned(),
            lang: "zh_CN".to_owned(),
            rate_per_second: None,
            daily_quota: None,
            active: true,
        };
        let stored =
            |value: &str| StoredToken { value: Ok(value.into()), expires_in: Duration::from_secs(7_000) };
        AppRow { app, token_version: version, token: token.map(stored) }
    }

    fn entry(row: AppRow, now: Instant) -> Entry {
        let mut entry = Entry::new(&row.app, now, now);
        entry.learn(row, now, now, &Timing::default());
        entry
    }

    #[tokio::test]
    async fn a_refusal_of_yesterday_s_secret_is_asked_again_at_once() {
        let (now, timing) = (Instant::now(), Timing::default());
        let mut entry = entry(row(0, None, "old"), now);
        entry.order(now).unwrap();
        entry.learn(row(0, None, "new"), now, now, &timing);

        let refused = Refreshed::Refused { errcode: 40125, errmsg: String::new() };
        assert_eq!(entry.settle(refused, now, &timing), None);
        assert_eq!(entry.due_at(), Some(now));
    }

    #[tokio::test]
    async fn a_refusal_with_the_right_settings_waits() {
        let (now, timing) = (Instant::now(), Timing::default());
        let mut entry = entry(row(0, None, "old"), now);
        entry.order(now).unwrap();
        assert!(entry.order(now).is_none(), "one refresh at a time");

        let refused = Refreshed::Refused { errcode: 40125, errmsg: String::new() };
        assert_eq!(entry.settle(refused, now, &timing), Some(RefreshResult::Refused));
        assert!(entry.due_at().is_some_and(|due| due >= now + Duration::from_secs(5)));

        entry.learn(row(0, None, "new"), now, now, &timing);
        assert_eq!(entry.due_at(), Some(now), "fixed settings are tried at once");
    }

    #[tokio::test]
    async fn older_versions_are_ignored_until_a_refresh_proves_them() {
        let (now, timing) = (Instant::now(), Timing::default());
        let mut entry = entry(row(7, Some("seven"), "s"), now);
        entry.learn(row(6, Some("six"), "s"), now, now, &timing);
        assert_eq!(entry.state().generation(), Some(7), "a slow reading is about the past");

        entry.wake(now);
        entry.order(now).unwrap();
        let restored = Refreshed::MovedOn(Box::new(row(6, Some("six"), "s")));
        entry.settle(restored, now, &timing);
        assert_eq!(entry.state().generation(), Some(6), "a restored backup is the truth");
    }

    #[tokio::test]
    async fn a_token_is_over_at_its_end_even_if_no_newer_one_came() {
        let (now, timing) = (Instant::now(), Timing::default());
        let mut entry = entry(row(7, Some("seven"), "s"), now);
        let end = now + Duration::from_secs(7_000);
        entry.order(end).unwrap();
        entry.settle(Refreshed::Leased, end - Duration::from_secs(1), &timing);
        assert!(!entry.expire(end - Duration::from_secs(1)));
        assert_eq!(entry.state().generation(), Some(7));
        assert!(entry.expire(end));
        assert_eq!(entry.state().generation(), None);
    }
}

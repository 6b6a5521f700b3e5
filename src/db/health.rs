//! Does PostgreSQL work? Judged by its answers. One line in the log when it stops working, one when it works again, and a
//! state that intake, readiness and metrics read in between.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Error;

/// Called with each failed statement: its name and its SQLSTATE.
pub type ErrorHook = Arc<dyn Fn(&'static str, &str) + Send + Sync>;

/// The statements that are retried until they succeed: only those can report their own recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asker {
    Plan,
    Record,
    Claim,
    Settle,
    /// Reserving from an app's daily quota.
    Quota,
    /// The readiness probe.
    Probe,
}

impl Asker {
    /// Does its failure stop deliveries? Other faults are logged and shown, and deliveries continue.
    const fn is_needed_to_deliver(self) -> bool {
        !matches!(self, Self::Quota | Self::Probe)
    }
}

/// While a fault lasts it is logged again this often, so that the last minutes of the log show it. One that comes and goes
/// is logged no more often.
const REMIND_EVERY: Duration = Duration::from_secs(60);
/// But a fault that has lasted this long is logged, whatever was logged before it.
const SAY_AFTER: Duration = Duration::from_secs(5);
/// A fault that affects some rows only comes and goes. It counts as one fault until it has not occurred for this long.
const CALM: Duration = Duration::from_secs(3);
/// A fault that has not occurred again for this long is over, even if its statement has not run since. Each is retried
/// within seconds, and a batch takes half a minute at most.
const FORGET_AFTER: Duration = Duration::from_secs(90);

/// Shared by all clones of a [`super::Database`].
#[derive(Clone)]
pub struct Health(Arc<Shared>);

struct Shared {
    faults: Mutex<Faults>,
    /// Why PostgreSQL does not work, in words for an operator; `None` while it works.
    why: watch::Sender<Option<String>>,
    /// Can deliveries continue?
    delivers: watch::Sender<bool>,
    on_error: Option<ErrorHook>,
}

#[derive(Default)]
struct Faults {
    /// The latest error of each statement that has not succeeded since.
    open: BTreeMap<Asker, Fault>,
    since: Option<Instant>,
    /// Has the open fault been logged?
    is_said: bool,
    said_at: Option<Instant>,
    /// Statement and code of the last one logged.
    said: (&'static str, String),
}

struct Fault {
    error: Error,
    at: Instant,
    /// The statement has succeeded since.
    is_over: bool,
}

impl Faults {
    fn is_due(&self, error: &Error, now: Instant) -> bool {
        let since_said = self.said_at.map_or(REMIND_EVERY, |said_at| now - said_at);
        let lasts = self.since.map_or(Duration::ZERO, |since| now - since);
        let is_news = self.said != key(error);
        since_said >= REMIND_EVERY || (!self.is_said && (is_news || lasts >= SAY_AFTER))
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Health {
    /// Nothing is known to be wrong yet.
    pub fn new(on_error: Option<ErrorHook>) -> Self {
        let (why, delivers) = (watch::channel(None).0, watch::channel(true).0);
        Self(Arc::new(Shared { faults: Mutex::default(), why, delivers, on_error }))
    }

    /// Why PostgreSQL does not work, as it changes.
    pub fn watch(&self) -> watch::Receiver<Option<String>> {
        self.0.why.subscribe()
    }

    /// Does PostgreSQL work, as far as is known? One shared lock.
    pub fn is_good(&self) -> bool {
        self.0.why.borrow().is_none()
    }

    /// Can deliveries continue? One shared lock.
    pub fn delivers(&self) -> bool {
        *self.0.delivers.borrow()
    }

    /// Waits until deliveries can continue.
    pub async fn until_it_delivers(&self) {
        // The sender lives as long as this value.
        let _ = self.0.delivers.subscribe().wait_for(|delivers| *delivers).await;
    }

    /// Counts an error of a statement that is not retried.
    pub fn count(&self, error: &Error) {
        if let Some(on_error) = &self.0.on_error {
            let (statement, sqlstate) = error.labels();
            on_error(statement, sqlstate);
        }
    }

    /// Records the result of a statement. A refused value says nothing about PostgreSQL.
    pub fn note<T>(&self, asker: Asker, answer: &Result<T, Error>) {
        match answer {
            Err(error) => {
                self.count(error);
                if matches!(error, Error::Away(_)) || error.needs_operator() {
                    self.broken(asker, error);
                }
            }
            // The usual case takes only the shared lock of the state.
            Ok(_) if self.is_good() => {}
            Ok(_) => self.works(asker),
        }
    }

    fn broken(&self, asker: Asker, error: &Error) {
        let now = Instant::now();
        let mut faults = self.faults();
        faults.open.insert(asker, Fault { error: error.clone(), at: now, is_over: false });
        faults.since.get_or_insert(now);
        if faults.is_due(error, now) {
            (faults.is_said, faults.said_at, faults.said) = (true, Some(now), key(error));
            say(asker, error);
        }
        self.publish(&faults);
    }

    fn works(&self, asker: Asker) {
        let now = Instant::now();
        let mut faults = self.faults();
        if let Some(fault) = faults.open.get_mut(&asker) {
            fault.is_over = true;
        }
        faults.open.retain(|_, fault| now - fault.at < if fault.is_over { CALM } else { FORGET_AFTER });
        if faults.open.is_empty()
            && let Some(since) = faults.since.take()
            && std::mem::take(&mut faults.is_said)
        {
            let down_s = (now - since).as_secs();
            tracing::info!(down_s, "PostgreSQL works again; deliveries resume");
        }
        self.publish(&faults);
    }

    fn publish(&self, faults: &Faults) {
        // A fault that the operator can fix is more useful than "away".
        let worst = faults.open.values().max_by_key(|fault| fault.error.needs_operator());
        let why = worst.map(|fault| fault.error.to_string());
        let stops = |(asker, fault): (&Asker, &Fault)| asker.is_needed_to_deliver() && !fault.is_over;
        let delivers = !faults.open.iter().any(stops);
        self.0.delivers.send_if_modified(|before| std::mem::replace(before, delivers) != delivers);
        self.0.why.send_if_modified(|before| {
            let is_news = *before != why;
            *before = why;
            is_news
        });
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        // Nothing panics under this lock.
        self.0.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(error: &Error) -> (&'static str, String) {
    let (statement, code) = error.labels();
    (statement, code.to_owned())
}

fn say(asker: Asker, error: &Error) {
    if error.needs_operator() && !asker.is_needed_to_deliver() {
        tracing::error!(%error, "PostgreSQL refuses statements: deliveries that do not need them continue, the others wait; \
            nothing is charged or given up, and everything resumes once this is fixed");
    } else if error.needs_operator() {
        tracing::error!(%error, "PostgreSQL refuses statements: deliveries that need them wait, nothing is charged or given \
            up, and they resume once this is fixed");
    } else {
        tracing::warn!(%error, "cannot reach PostgreSQL: deliveries wait, and resume once it is back");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::sqlstate::Remedy;

    fn lost_grant() -> Result<(), Error> {
        let (code, message) =
            ("42501".to_owned(), "permission denied for table t_wechat_delivery".to_owned());
        Err(Error::Installation { query: "claim: insert", code, message, remedy: Remedy::Grant })
    }

    fn away() -> Result<(), Error> {
        Err(Error::Away("connection refused".to_owned()))
    }

    fn refused() -> Result<(), Error> {
        Err(Error::Refused { query: "plan", code: "22021".to_owned(), message: "invalid byte".to_owned() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_lasts_until_the_statement_that_failed_succeeds() {
        let health = Health::default();
        health.note(Asker::Claim, &lost_grant());
        health.note(Asker::Plan, &Ok(()));
        assert!(!health.is_good(), "that a plan can be made says nothing about claims");
        health.note(Asker::Claim, &Ok(()));
        assert!(health.delivers() && !health.is_good(), "a single answer is no end of it yet");
        tokio::time::advance(CALM).await;
        health.note(Asker::Probe, &Ok(()));
        assert!(health.is_good());
    }

    #[tokio::test(start_paused = true)]
    async fn the_cause_that_needs_somebody_is_the_one_shown() {
        let health = Health::default();
        health.note(Asker::Claim, &lost_grant());
        health.note(Asker::Plan, &away());
        let why = health.watch().borrow().clone().unwrap();
        assert!(why.contains("42501") && why.contains("deploy/sql/grants.sql"), "{why}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_only_the_probe_meets_is_shown_and_stops_no_delivery() {
        let health = Health::default();
        health.note(Asker::Probe, &lost_grant());
        assert!(!health.is_good() && health.delivers());
        health.note(Asker::Settle, &lost_grant());
        assert!(!health.delivers());
        health.note(Asker::Settle, &Ok(()));
        assert!(health.delivers());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_value_is_not_postgresqls_fault() {
        let health = Health::default();
        health.note(Asker::Plan, &refused());
        assert!(health.is_good());
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_that_nobody_meets_again_is_forgotten() {
        let health = Health::default();
        health.note(Asker::Settle, &away());
        tokio::time::advance(FORGET_AFTER).await;
        health.note(Asker::Probe, &Ok(()));
        assert!(health.is_good());
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_and_goes_is_said_once_a_minute_and_what_lasts_is_said() {
        let health = Health::default();
        let said = || health.faults().is_said;
        health.note(Asker::Claim, &lost_grant());
        assert!(said());
        health.note(Asker::Claim, &Ok(()));
        tokio::time::advance(CALM).await;
        health.note(Asker::Claim, &Ok(()));
        health.note(Asker::Claim, &lost_grant());
        assert!(!said(), "it was said a moment ago");
        tokio::time::advance(SAY_AFTER).await;
        health.note(Asker::Claim, &lost_grant());
        assert!(said());
    }

    #[tokio::test(start_paused = true)]
    async fn every_error_is_counted_by_statement_and_code() {
        let counted = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&counted);
        let hook: ErrorHook = Arc::new(move |statement, code| {
            told.lock().unwrap().push(format!("{statement}/{code}"));
        });
        let health = Health::new(Some(hook));
        health.note(Asker::Claim, &lost_grant());
        health.note(Asker::Plan, &refused());
        health.note(Asker::Plan, &away());
        assert_eq!(*counted.lock().unwrap(), ["claim: insert/42501", "plan/22021", "any/none"]);
    }
}

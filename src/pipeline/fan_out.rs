//! From a plan to everybody it names: at once where they fit one page, else page by page.
//!
//! For an event of more than a page all rows are written at once, and then worked through. The ledger holds the set, so memory
//! holds one page of it. The event is the delivery message of every row of epoch 0. So wherever the work ends early (a crash, a
//! stop, a paused app, PostgreSQL away, or simply enough time in our hands) no message per recipient is needed: the event comes
//! again, and the work goes on with the rows that are left.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use tokio::time::Instant;

use super::apps::{Apps, ResolvedApp};
use super::dead_letterer::DeadLetterer;
use super::defer::Deferrer;
use super::envelope::Envelope;
use super::job::{Disposition, Job, Unsettled, Wait};
use super::ledger::Ledger;
use super::process::Processor;
use crate::admission::Rank;
use crate::clock;
use crate::db::ledger::fan_out::{Done, Written};
use crate::db::ledger::record;
use crate::db::{self, Database};
use crate::domain::delivery::{Delivery, Progress};
use crate::domain::event::Event;
use crate::domain::outcome::{Outcome, SkipReason};
use crate::domain::plan::Plan;
use crate::domain::recipient::Recipient;
use crate::failpoint::crash_point;
use crate::metrics::{EventResult, Metrics};

/// Deliveries of one event under way at once: enough to keep WeChat busy, too few for one event to take every slot.
const MAX_AT_ONCE: usize = 64;
/// After this long an event goes back to the broker, even though there is more to do: a message that stays unacked for half
/// an hour costs its channel (RabbitMQ's `consumer_timeout`). Shorter would fetch and decode a large event more often.
const MAX_STAY: Duration = Duration::from_secs(300);

/// Spreads planned events.
pub(super) struct FanOut {
    pub(super) db: Database,
    pub(super) apps: Arc<Apps>,
    pub(super) ledger: Ledger,
    pub(super) processor: Arc<Processor>,
    pub(super) deferrer: Deferrer,
    pub(super) dead_letterer: DeadLetterer,
    pub(super) max_hold: Duration,
    pub(super) metrics: Arc<Metrics>,
}

/// A planned event in our hands.
pub(super) struct Spreading<'a> {
    pub(super) event: &'a Arc<Event>,
    pub(super) envelope: &'a Arc<Envelope>,
    pub(super) app: ResolvedApp,
    /// What its deliveries begin with.
    pub(super) progress: Progress,
    /// The broker hands it out again: its own doing, not a second publication.
    pub(super) redelivered: bool,
}

/// What interrupts the work on an event for many.
enum Interruption {
    Unsettled(Unsettled),
    Ledger(db::Error),
}

impl FanOut {
    /// Spreads an event to everybody it is for. When it returns, every recipient is sent to, skipped, deferred or dead-lettered.
    pub(super) async fn at_once(&self, plan: Plan, spreading: Spreading<'_>) -> Disposition {
        crash_point("planned");
        let duplicate = plan.seen_before && !spreading.redelivered;
        self.metrics.event(if duplicate { EventResult::Duplicate } else { EventResult::Planned });
        let is_one = plan.skips.len() + plan.deliveries.len() == 1;
        let skips = plan.skips.into_iter().map(|(recipient, reason)| (recipient, Some(reason)));
        let deliveries = plan.deliveries.into_iter().map(|recipient| (recipient, None));
        let step = |(recipient, skip)| {
            let job = spreading.job(recipient);
            // Boxed: a step is some kilobytes, which would be copied with every future around it.
            Box::pin(async move {
                let work = async {
                    match skip {
                        Some(reason) => self.record_skip(&job, reason).await,
                        None => {
                            let disposition = self.processor.process(&job, job.envelope.rank).await;
                            self.deferrer.if_it_must_wait(&job, disposition).await
                        }
                    }
                };
                let ended = AssertUnwindSafe(work).catch_unwind().await;
                self.dead_letterer.if_it_panicked(&job, ended).await
            })
        };
        let mut steps = skips.chain(deliveries).map(step);
        // Most events are for one person, and one step needs nobody to look after several.
        if is_one && let Some(only) = steps.next() {
            return only.await;
        }
        let ends: Vec<Disposition> = stream::iter(steps).buffer_unordered(MAX_AT_ONCE).collect().await;
        // One delivery that is unsettled keeps the whole message; the ledger knows which ones are done.
        ends.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }

    /// Spreads an event to many, as far as it goes now: to everybody, or until it is deferred. `written`: the ledger holds its
    /// rows already.
    pub(super) async fn in_pages(&self, written: bool, spreading: Spreading<'_>) -> Disposition {
        let Spreading { event, envelope, app, .. } = &spreading;
        match self.write_and_work_through(written, &spreading).await {
            Ok(()) => Ok(()),
            Err(Interruption::Unsettled(Unsettled::ToDefer(wait))) => {
                self.deferrer.event(envelope, app, wait).await
            }
            Err(Interruption::Unsettled(unsettled)) => Err(unsettled),
            Err(Interruption::Ledger(error)) if error.is_away() => {
                self.db.health().count(&error);
                tracing::debug!(%error, event_id = %event.event_id, app_id = %event.app_id,
                    "a big fan-out waits for PostgreSQL; it will resume");
                self.deferrer.event(envelope, app, Wait::Briefly).await
            }
            Err(Interruption::Ledger(refused)) => {
                self.dead_letterer.refused_event(event, envelope, &refused).await
            }
        }
    }

    async fn write_and_work_through(
        &self,
        written: bool,
        spreading: &Spreading<'_>,
    ) -> Result<(), Interruption> {
        let nobody = spreading.job(Recipient::Nobody);
        if !written && nobody.delivery.is_expired(clock::now()) {
            // Its rows could not be written in all that time: nobody is left to look for.
            return Ok(self.record_skip(&nobody, SkipReason::Expired).await?);
        }
        let is_new = !written && self.write_rows(spreading).await?;
        crash_point("set_written");
        if let Some(due) = spreading.event.deliver_after.filter(|due| *due > clock::now()) {
            return Err(Unsettled::ToDefer(Wait::Until(due)).into());
        }
        let nothing_left = self.work_through(spreading).await? == 0;
        if !is_new && nothing_left && !spreading.redelivered {
            self.metrics.event(EventResult::Duplicate);
        }
        Ok(())
    }

    /// Writes the set, unless it is there. Were there new rows?
    async fn write_rows(&self, spreading: &Spreading<'_>) -> Result<bool, Interruption> {
        let Written { planned, skipped, any } = self.write_all(spreading).await?;
        if !any {
            self.record_skip(&spreading.job(Recipient::Nobody), SkipReason::NoRecipients).await?;
        }
        let event = spreading.event;
        let is_new = planned > 0 || !skipped.is_empty() || !any;
        for (reason, count) in &skipped {
            self.metrics.deliveries(&event.app_id, &Outcome::Skipped(*reason), *count);
        }
        if is_new {
            self.metrics.event(EventResult::Planned);
            let skipped: usize = skipped.iter().map(|(_, count)| count).sum();
            tracing::info!(event_id = %event.event_id, app_id = %event.app_id, planned, skipped,
                "big fan-out: rows written");
        }
        Ok(is_new)
    }

    /// Writes everybody whose row PostgreSQL takes. Whom it refuses becomes a dead letter first: once the set is there, nobody is
    /// looked for again.
    async fn write_all(&self, spreading: &Spreading<'_>) -> Result<Written, Interruption> {
        let mut refused = Vec::new();
        loop {
            let trace_id = spreading.envelope.trace_id.as_deref();
            match self.ledger.write_all(spreading.event, trace_id, &refused).await? {
                Done::Written(written) => {
                    return Ok(Written { any: written.any || !refused.is_empty(), ..written });
                }
                Done::Refused(some, error) => {
                    for recipient in &some {
                        self.dead_letterer.refused(&spreading.job(recipient.clone()), &error).await?;
                    }
                    refused.extend(some);
                }
            }
        }
    }

    /// Brings everybody who is left, page by page. Answers how many that were.
    async fn work_through(&self, spreading: &Spreading<'_>) -> Result<usize, Interruption> {
        let leave_at = Instant::now() + MAX_STAY;
        let (mut after, mut brought) = (String::new(), 0);
        loop {
            let page = self.ledger.unfinished(spreading.event, &after).await?;
            let Some(last) = page.last() else { return Ok(brought) };
            after = last.ledger_key();
            brought += page.len();
            self.bring_page(page, spreading, leave_at).await?;
            crash_point("page_brought");
        }
    }

    /// Brings one page. Somebody who must wait, or whom the time does not reach, ends the fan-out for now: the event brings that
    /// row again.
    async fn bring_page(
        &self,
        page: Vec<Recipient>,
        spreading: &Spreading<'_>,
        leave_at: Instant,
    ) -> Disposition {
        let steps = page.into_iter().map(|recipient| async {
            if Instant::now() > leave_at {
                return Err(Unsettled::ToDefer(Wait::Briefly));
            }
            // Looked up for each: a page can take minutes, and the app may go meanwhile.
            let app = self.apps.resolve(spreading.event).await;
            // Whatever queue the event came from: a fresh event for one user goes before a crowd.
            let job = Job { app, ..spreading.job(recipient) };
            let ended = AssertUnwindSafe(self.processor.process(&job, Rank::Lane)).catch_unwind().await;
            self.dead_letterer.if_it_panicked(&job, ended).await
        });
        let at_once = spreading
            .app
            .as_ref()
            .map_or(MAX_AT_ONCE, |app| app.limits.most_in_hand(&app.settings(), self.max_hold, MAX_AT_ONCE));
        let ends: Vec<Disposition> = stream::iter(steps).buffer_unordered(at_once).collect().await;
        ends.into_iter().filter_map(Result::err).min_by_key(urgency).map_or(Ok(()), Err)
    }

    /// Records a skip that needs no claim: nobody has attempted this delivery.
    async fn record_skip(&self, job: &Job, reason: SkipReason) -> Disposition {
        let Job { delivery, envelope, .. } = job;
        let request = record::Request {
            event: Arc::clone(&delivery.event),
            recipient: delivery.recipient.clone(),
            what: record::What::Skipped(reason),
            trace_id: envelope.trace_id.clone(),
        };
        match self.ledger.record(&request).await {
            Ok(true) => self.metrics.delivery(&delivery.event.app_id, &Outcome::Skipped(reason)),
            // Somebody else has written the row, and counts it.
            Ok(false) => {}
            Err(refused) => return self.dead_letterer.refused(job, &refused).await,
        }
        crash_point("skip_recorded");
        Ok(())
    }
}

impl Spreading<'_> {
    fn job(&self, recipient: Recipient) -> Job {
        let delivery = Delivery { event: Arc::clone(self.event), recipient, progress: self.progress };
        Job { delivery, envelope: Arc::clone(self.envelope), app: self.app.clone() }
    }
}

/// Of several deliveries that are unsettled, the lowest decides about their event: a stop comes first, then a pause.
fn urgency(unsettled: &Unsettled) -> u8 {
    match unsettled {
        Unsettled::CutOff | Unsettled::Released => 0,
        Unsettled::ToDefer(Wait::InLane) => 1,
        Unsettled::ToDefer(Wait::Until(_)) => 2,
        Unsettled::ToDefer(Wait::Briefly) => 3,
    }
}

impl From<Unsettled> for Interruption {
    fn from(unsettled: Unsettled) -> Self {
        Self::Unsettled(unsettled)
    }
}

impl From<db::Error> for Interruption {
    fn from(error: db::Error) -> Self {
        Self::Ledger(error)
    }
}

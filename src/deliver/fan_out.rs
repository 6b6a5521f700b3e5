//! An event for more people than one page: its rows are written at once, then worked through page by page.
//!
//! The ledger holds the set, so memory holds one page of it. The event is the delivery message of every row of epoch 0. So
//! wherever the work ends early (a crash, a stop, a paused app, PostgreSQL away, or simply enough time in our hands) no
//! message per recipient is needed: the event comes again, and whoever takes it goes on with the rows that are left.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::bring::Brought;
use super::envelope::Envelope;
use super::plan::MAX_AT_ONCE;
use super::slots::Rank;
use super::{Left, Pipeline};
use crate::clock;
use crate::db;
use crate::db::ledger::fan_out::{Done, Written};
use crate::domain::delivery::Delivery;
use crate::domain::event::Event;
use crate::domain::outcome::{Outcome, SkipReason};
use crate::domain::recipient::Recipient;
use crate::failpoint::crash_point;
use crate::metrics::EventResult;

/// After this long an event goes back to the broker, even though there is more to do: a message that stays unacked for half
/// an hour costs its channel (RabbitMQ's `consumer_timeout`). Shorter would fetch and decode a large event more often.
const MAX_STAY: Duration = Duration::from_secs(300);

/// What is known when the event comes in.
pub(super) struct FirstSight {
    /// The ledger holds its rows.
    pub(super) written: bool,
    /// The broker hands it out again.
    pub(super) redelivered: bool,
}

/// Why a fan-out ends for now.
enum Pause {
    Left(Left),
    /// To be continued, after about this long.
    Wait(Duration),
    /// The app is paused; to be continued in its lane.
    InLane,
    Books(db::Error),
}

impl Pipeline {
    /// Spreads an event to many, as far as it goes now. Afterwards its message may be acked: everybody has been brought to,
    /// or the event has been deferred.
    pub(super) async fn fan_out(
        self: &Arc<Self>,
        event: &Arc<Event>,
        envelope: &Arc<Envelope>,
        first_sight: FirstSight,
    ) -> Result<(), Left> {
        match self.write_and_work_through(event, envelope, first_sight).await {
            Ok(()) => Ok(()),
            Err(Pause::Left(left)) => Err(left),
            Err(Pause::Wait(wait)) => self.defer_event(envelope, wait).await,
            Err(Pause::InLane) => self.event_to_lane(event, envelope).await,
            Err(Pause::Books(error)) if error.is_away() => {
                self.db.health().count(&error);
                tracing::debug!(%error, event_id = %event.event_id, app_id = %event.app_id,
                    "a big fan-out waits for PostgreSQL; it will resume");
                self.defer_event(envelope, self.settings.ladder.first()).await
            }
            Err(Pause::Books(refused)) => self.dead_letter_refused_event(event, envelope, &refused).await,
        }
    }

    async fn write_and_work_through(
        self: &Arc<Self>,
        event: &Arc<Event>,
        envelope: &Arc<Envelope>,
        first_sight: FirstSight,
    ) -> Result<(), Pause> {
        if !first_sight.written && is_expired(event, envelope) {
            // Its rows could not be written in all that time: nobody is left to look for.
            return Ok(self.skip_nobody(event, envelope, SkipReason::Expired).await?);
        }
        let is_new = !first_sight.written && self.write_rows(event, envelope).await?;
        crash_point("set_written");
        if let Some(due) = event.deliver_after.filter(|due| *due > clock::now()) {
            return Err(Pause::Wait(due.duration_since(clock::now()).unsigned_abs()));
        }
        let nothing_left = self.work_through(event, envelope).await? == 0;
        if !is_new && nothing_left && !first_sight.redelivered {
            self.metrics.event(EventResult::Duplicate);
        }
        Ok(())
    }

    /// Writes the set, unless it stands. Were there new rows?
    async fn write_rows(&self, event: &Arc<Event>, envelope: &Arc<Envelope>) -> Result<bool, Pause> {
        let Written { planned, skipped, any } = self.write_all(event, envelope).await?;
        if !any {
            self.skip_nobody(event, envelope, SkipReason::NoRecipients).await?;
        }
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

    /// Writes everybody whose row PostgreSQL takes. Whom it refuses becomes a dead letter first: once the set stands, nobody is
    /// looked for again.
    async fn write_all(&self, event: &Arc<Event>, envelope: &Arc<Envelope>) -> Result<Written, Pause> {
        let mut refused = Vec::new();
        loop {
            let trace_id = envelope.trace_id.as_deref();
            match self.ledger.write_all(event, trace_id, &refused).await? {
                Done::Written(written) => {
                    return Ok(Written { any: written.any || !refused.is_empty(), ..written });
                }
                Done::Refused(some, error) => {
                    for recipient in &some {
                        let (event, recipient) = (Arc::clone(event), recipient.clone());
                        let delivery = Delivery { event, recipient, progress: envelope.progress };
                        self.dead_letter_refused(&delivery, envelope, &error).await?;
                    }
                    refused.extend(some);
                }
            }
        }
    }

    /// Brings everybody who is left, page by page. Answers how many that were.
    async fn work_through(
        self: &Arc<Self>,
        event: &Arc<Event>,
        envelope: &Arc<Envelope>,
    ) -> Result<usize, Pause> {
        let leave_at = Instant::now() + MAX_STAY;
        let (mut after, mut brought) = (String::new(), 0);
        loop {
            let page = self.ledger.unfinished(event, &after).await?;
            let Some(last) = page.last() else { return Ok(brought) };
            after = last.ledger_key();
            brought += page.len();
            self.bring_page(page, event, envelope, leave_at).await?;
            crash_point("page_brought");
        }
    }

    /// Brings one page. Somebody who is held, or whom the time does not reach, ends the fan-out for now: his row is the
    /// event's to carry.
    async fn bring_page(
        self: &Arc<Self>,
        page: Vec<Recipient>,
        event: &Arc<Event>,
        envelope: &Arc<Envelope>,
        leave_at: Instant,
    ) -> Result<(), Pause> {
        let steps = page.into_iter().map(|recipient| async {
            if Instant::now() > leave_at {
                return Ok(Brought::Held);
            }
            let delivery = Delivery { event: Arc::clone(event), recipient, progress: envelope.progress };
            self.bring_one_of_many(&delivery, envelope).await
        });
        let at_once = self.lane_in_hand(&event.app_id, MAX_AT_ONCE);
        let ends: Vec<Result<Brought, Left>> = stream::iter(steps).buffer_unordered(at_once).collect().await;
        let ends: Vec<Brought> = ends.into_iter().collect::<Result<_, _>>()?;
        let template_due = ends.iter().find_map(|end| match end {
            Brought::TemplatePaused(due) => Some(*due),
            _ => None,
        });
        match () {
            () if ends.contains(&Brought::Paused) => Err(Pause::InLane),
            () if let Some(due) = template_due => {
                Err(Pause::Wait(due.duration_since(clock::now()).try_into().unwrap_or_default()))
            }
            () if ends.contains(&Brought::Held) => Err(Pause::Wait(self.settings.ladder.first())),
            () => Ok(()),
        }
    }

    async fn bring_one_of_many(
        self: &Arc<Self>,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
    ) -> Result<Brought, Left> {
        let work = async {
            if let Err(reason) = self.app_of(&delivery.event).await {
                return self.give_up(delivery, envelope, reason).await.map(|()| Brought::AsFarAsItGoes);
            }
            // Whatever queue the event came from: a fresh event for one user goes before a crowd.
            self.bring_if_ready(delivery, envelope, Rank::Lane).await
        };
        self.or_dead_letter(work, delivery, envelope, Brought::AsFarAsItGoes).await
    }

    /// The one row of an event that reaches nobody.
    async fn skip_nobody(
        &self,
        event: &Arc<Event>,
        envelope: &Arc<Envelope>,
        reason: SkipReason,
    ) -> Result<(), Left> {
        let (event, recipient) = (Arc::clone(event), Recipient::Nobody);
        self.record_skip(&Delivery { event, recipient, progress: envelope.progress }, envelope, reason).await
    }
}

fn is_expired(event: &Event, envelope: &Envelope) -> bool {
    event.expires_at <= clock::now() && !envelope.progress.even_expired
}

impl From<Left> for Pause {
    fn from(left: Left) -> Self {
        Self::Left(left)
    }
}

impl From<db::Error> for Pause {
    fn from(error: db::Error) -> Self {
        Self::Books(error)
    }
}

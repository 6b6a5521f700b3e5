//! From an event to its deliveries.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::stream;
use futures_util::{FutureExt, StreamExt};

use super::envelope::Envelope;
use super::fan_out::FirstSight;
use super::{Left, Pipeline};
use crate::db::ledger::record;
use crate::domain::delivery::Delivery;
use crate::domain::event::Event;
use crate::domain::outcome::{DeadReason, Outcome, SkipReason};
use crate::domain::plan::{self, Plan, Reused, Spread};
use crate::domain::recipient::Recipient;
use crate::failpoint::crash_point;
use crate::metrics::EventResult;

/// Deliveries of one event under way at once: enough to keep WeChat busy, too few for one event to take every slot.
pub(super) const MAX_AT_ONCE: usize = 64;

impl Pipeline {
    /// Spreads an event to everybody it is for. When it returns, every recipient is sent to, skipped, deferred or dead_lettered.
    pub(super) async fn spread(
        self: &Arc<Self>,
        event: Arc<Event>,
        envelope: &Arc<Envelope>,
        redelivered: bool,
    ) -> Result<(), Left> {
        let plan = match self.plan(&event, envelope).await? {
            Planned::Spread(Spread::AtOnce(plan)) => plan,
            Planned::Spread(Spread::InPages { written }) => {
                return Box::pin(self.fan_out(&event, envelope, FirstSight { written, redelivered })).await;
            }
            Planned::Elsewhere => return Ok(()),
        };
        crash_point("planned");
        self.count_event(&plan, redelivered);
        self.take_steps(plan, &event, envelope).await
    }

    async fn take_steps(
        self: &Arc<Self>,
        plan: Plan,
        event: &Arc<Event>,
        envelope: &Arc<Envelope>,
    ) -> Result<(), Left> {
        let is_one = plan.skips.len() + plan.deliveries.len() == 1;
        let mut steps = self.steps_of(plan, event, envelope);
        // Most events are for one person, and one step needs nobody to look after several.
        if is_one && let Some(only) = steps.next() {
            return only.await;
        }
        let ends: Vec<Result<(), Left>> = stream::iter(steps).buffer_unordered(MAX_AT_ONCE).collect().await;
        // One delivery that was left keeps the whole message; the ledger knows which ones are done.
        ends.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }

    async fn plan(self: &Arc<Self>, event: &Arc<Event>, envelope: &Arc<Envelope>) -> Result<Planned, Left> {
        let app = self.app_of(event).await;
        if let Ok(app) = &app
            && self.belongs_in_lane(app, envelope)
        {
            self.metrics.event(EventResult::Moved);
            return self.move_to_lane(app, envelope).await.map(|()| Planned::Elsewhere);
        }
        let findings = match self.ledger.look_up(event).await {
            Ok(findings) => findings,
            Err(refused) => {
                return self
                    .dead_letter_refused_event(event, envelope, &refused)
                    .await
                    .map(|()| Planned::Elsewhere);
            }
        };
        let is_new = findings.known.is_empty();
        match (app, plan::spread(findings.named, findings.many, &findings.known)) {
            // Rows that are there already outlive their app: each of them has an end to come to.
            (Err(reason), _) if is_new => self.refuse(event, envelope, reason).await,
            (_, Err(Reused)) => self.refuse(event, envelope, DeadReason::EventIdReused).await,
            (Ok(app), _) if is_new && !app.app().active => {
                Ok(Planned::Spread(Spread::AtOnce(skip_all(SkipReason::AppDisabled))))
            }
            (_, Ok(spread)) => Ok(Planned::Spread(spread)),
        }
    }

    async fn refuse(
        &self,
        event: &Event,
        envelope: &Arc<Envelope>,
        reason: DeadReason,
    ) -> Result<Planned, Left> {
        self.metrics.event(EventResult::Dead);
        self.dead_letter_event(event, envelope, reason).await.map(|()| Planned::Elsewhere)
    }

    fn count_event(&self, plan: &Plan, redelivered: bool) {
        // A redelivery is the broker's doing, not a second publication.
        let duplicate = plan.seen_before && !redelivered;
        self.metrics.event(if duplicate { EventResult::Duplicate } else { EventResult::Planned });
    }

    /// One future per recipient: a skip to record, or a delivery to bring.
    fn steps_of<'a>(
        self: &'a Arc<Self>,
        plan: Plan,
        event: &'a Arc<Event>,
        envelope: &'a Arc<Envelope>,
    ) -> impl Iterator<Item = impl Future<Output = Result<(), Left>> + 'a> + 'a {
        let skips = plan.skips.into_iter().map(|(recipient, reason)| (recipient, Some(reason)));
        let deliveries = plan.deliveries.into_iter().map(|recipient| (recipient, None));
        let step = move |(recipient, reason)| async move {
            let delivery = Delivery { event: Arc::clone(event), recipient, progress: envelope.progress };
            let work = async {
                match reason {
                    Some(reason) => self.record_skip(&delivery, envelope, reason).await,
                    None => self.bring(&delivery, envelope).await,
                }
            };
            self.or_dead_letter(work, &delivery, envelope, ()).await
        };
        // Boxed: a step is some kilobytes, which would be copied with every future around it.
        skips.chain(deliveries).map(step).map(Box::pin)
    }

    /// Records a skip that needs no claim: nobody has attempted this delivery.
    pub(super) async fn record_skip(
        &self,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
        reason: SkipReason,
    ) -> Result<(), Left> {
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
            Err(refused) => return self.dead_letter_refused(delivery, envelope, &refused).await,
        }
        crash_point("skip_recorded");
        Ok(())
    }

    /// Works on one delivery. A panic makes a dead letter of this delivery and leaves the others of its event alone.
    pub(super) async fn or_dead_letter<T>(
        &self,
        work: impl Future<Output = Result<T, Left>>,
        delivery: &Delivery,
        envelope: &Arc<Envelope>,
        dead_lettered: T,
    ) -> Result<T, Left> {
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(ended) => ended,
            // Boxed, as it is rare: see `publish`.
            Err(_panic) => {
                Box::pin(self.dead_letter_panicked(delivery, envelope)).await.map(|()| dead_lettered)
            }
        }
    }
}

enum Planned {
    Spread(Spread),
    /// The event became a dead letter, or waits in its app's lane.
    Elsewhere,
}

fn skip_all(reason: SkipReason) -> Plan {
    Plan { skips: vec![(Recipient::Nobody, reason)], ..Plan::default() }
}

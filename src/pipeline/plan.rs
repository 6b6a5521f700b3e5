//! From an event to its recipients.

use std::sync::Arc;

use super::apps::ResolvedApp;
use super::dead_letterer::DeadLetterer;
use super::envelope::Envelope;
use super::job::Disposition;
use super::ledger::Ledger;
use crate::domain::event::Event;
use crate::domain::outcome::{DeadReason, SkipReason};
use crate::domain::plan::{self, Plan, Reused, Spread};
use crate::domain::recipient::Recipient;
use crate::metrics::{EventResult, Metrics};

/// Plans events.
pub(super) struct Planner {
    pub(super) ledger: Ledger,
    pub(super) dead_letterer: DeadLetterer,
    pub(super) metrics: Arc<Metrics>,
}

impl Planner {
    /// Plans an event; `None` where it became a dead letter.
    pub(super) async fn plan(
        &self,
        event: &Arc<Event>,
        app: &ResolvedApp,
        envelope: &Envelope,
    ) -> Disposition<Option<Spread>> {
        let findings = match self.ledger.look_up(event).await {
            Ok(findings) => findings,
            Err(refused) => {
                return self.dead_letterer.refused_event(event, envelope, &refused).await.map(|()| None);
            }
        };
        let is_new = findings.known.is_empty();
        let spread = match (app, plan::spread(findings.named, findings.many, &findings.known)) {
            // Rows that are there already outlive their app: each of them has an end to come to.
            (Err(reason), _) if is_new => return self.refuse(event, envelope, *reason).await,
            (_, Err(Reused)) => return self.refuse(event, envelope, DeadReason::EventIdReused).await,
            (Ok(app), _) if is_new && !app.settings().active => {
                Spread::AtOnce(skip_all(SkipReason::AppDisabled))
            }
            (_, Ok(spread)) => spread,
        };
        Ok(Some(spread))
    }

    async fn refuse(
        &self,
        event: &Event,
        envelope: &Envelope,
        reason: DeadReason,
    ) -> Disposition<Option<Spread>> {
        self.metrics.event(EventResult::Dead);
        self.dead_letterer.event(event, envelope, reason).await.map(|()| None)
    }
}

fn skip_all(reason: SkipReason) -> Plan {
    Plan { skips: vec![(Recipient::Nobody, reason)], ..Plan::default() }
}

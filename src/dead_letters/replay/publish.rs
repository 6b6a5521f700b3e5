//! A batch of dead letters: each is judged, published, confirmed, marked.

use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::contents::{Contents, Replay};
use super::judge::{Judgement, View, judge};
use super::{Fault, Replayer};
use crate::amqp::{Message, PublishError, Route};
use crate::clock;
use crate::db;
use crate::db::ledger::plan;
use crate::db::replay::{Candidate, Mark, Marked};
use crate::domain::plan::{Spread, spread};
use crate::failpoint::crash_point;

/// A broker that takes longer is away, or full; the command ends and says how to go on.
const BROKER_PATIENCE: Duration = Duration::from_secs(60);

impl Replayer {
    /// Brings the next dead letters on their way, at most so many. False when none was left.
    pub(super) async fn publish_some(
        &self,
        replay: &Replay,
        view: &View<'_>,
        step: i32,
        at_most: i64,
    ) -> Result<bool, Fault> {
        let id = replay.id;
        let candidates = db::replay::pending(&self.db, id, at_most, self.terms.max_body_bytes).await?;
        if candidates.is_empty() {
            return Ok(false);
        }
        let brought = join_all(candidates.iter().map(|candidate| self.bring(candidate, replay, view))).await;
        crash_point("replay_published");
        let (marks, faults): (Vec<_>, Vec<_>) = brought.into_iter().partition(Result::is_ok);
        let marks: Vec<Mark> = marks.into_iter().flatten().collect();
        db::replay::mark(&self.db, id, step, &marks).await?;
        crash_point("replay_marked");
        // What was published is marked, whatever became of its neighbours.
        faults.into_iter().find_map(Result::err).map_or(Ok(true), Err)
    }

    async fn bring(&self, candidate: &Candidate, replay: &Replay, view: &View<'_>) -> Result<Mark, Fault> {
        let what = match judge(candidate, view, clock::now()) {
            Judgement::Refuse(refusal) => Marked::Refused(refusal),
            Judgement::IsOut => Marked::Published,
            Judgement::Publish(contents) if view.re_resolve => {
                self.publish_by_rules(&contents, candidate, replay).await?
            }
            Judgement::Publish(contents) => self.publish_as_recorded(&contents, candidate, replay).await?,
        };
        crash_point("replay_dead_letter_published");
        Ok(Mark { dead_letter: candidate.archived.id, what })
    }

    /// To the recorded recipient; a whole event has none, so its rules are asked.
    async fn publish_as_recorded(
        &self,
        contents: &Contents,
        candidate: &Candidate,
        replay: &Replay,
    ) -> Result<Marked, Fault> {
        let message = match &contents.to {
            Some(to) => contents.delivery(to, candidate, replay),
            None => contents.whole(candidate, replay),
        };
        self.publish(contents, message).await?;
        Ok(Marked::Published)
    }

    /// Publishes the event, so that users whom the rules name now and who have no row yet get a delivery; and the recorded
    /// recipient's delivery with it, if the rules still name them.
    async fn publish_by_rules(
        &self,
        contents: &Contents,
        candidate: &Candidate,
        replay: &Replay,
    ) -> Result<Marked, Fault> {
        self.publish(contents, contents.whole(candidate, replay)).await?;
        let Some(to) = &contents.to else { return Ok(Marked::Published) };
        let findings =
            plan::look_up(&self.db, std::slice::from_ref(&contents.event)).await?.pop().unwrap_or_default();
        let is_named = match spread(findings.named, findings.many, &[]) {
            Ok(Spread::AtOnce(plan)) => {
                plan.deliveries.iter().any(|r| r.ledger_key() == to.recipient.ledger_key())
            }
            // More than a page is named, and not all of them were read. Consent is asked again in any case.
            _ => true,
        };
        if !is_named {
            return Ok(Marked::NotNamed);
        }
        self.publish(contents, contents.delivery(to, candidate, replay)).await?;
        Ok(Marked::Published)
    }

    /// Into the lane of its app, behind the app's fresh events.
    async fn publish(&self, contents: &Contents, message: Message) -> Result<(), Fault> {
        let route = Route::queue(self.topology.lane(&contents.event.app_id));
        let patience = CancellationToken::new();
        let published = self.publisher.publish_until_confirmed(&route, &message, &patience);
        let published = tokio::time::timeout(BROKER_PATIENCE, published).await;
        Ok(published.unwrap_or(Err(PublishError::Away))?)
    }
}

//! Looks at the lanes at the broker: what waits in each, and whether one is filled that nobody here consumes yet.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::apps::Apps;
use crate::amqp::{Broker, LinkError};
use crate::clock;
use crate::domain::ids::AppId;
use crate::lifecycle::Beat;
use crate::metrics::Metrics;

/// How often a process looks for lanes that an earlier one, or another, has filled.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Lanes asked for in one look that were not there at the last one. Each that is still missing costs the broker a channel, and
/// most apps never have a lane; fewer, and one that another process has made is found later.
const MISSING_AT_ONCE: usize = 20;

/// Looks at the lanes of all apps.
pub struct LaneWatch {
    pub(super) broker: Broker,
    pub(super) apps: Arc<Apps>,
    pub(super) metrics: Arc<Metrics>,
}

impl LaneWatch {
    /// Looks every few seconds, without end.
    pub async fn run(self: Arc<Self>, beat: Arc<Beat>) {
        let mut rounds = Rounds::default();
        loop {
            beat.beat();
            let asked = rounds.next(self.apps.ids());
            match self.look(&asked).await {
                Ok(there) => rounds.found(there),
                Err(error) => {
                    tracing::debug!(%error, "cannot look for lanes");
                    rounds.again();
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Somebody else has put something into the lane of this app.
    pub fn lane_is_filled(&self, app_id: &AppId) {
        if let Some(app) = self.apps.in_memory(app_id) {
            app.lane_filled.notify_one();
        }
    }

    /// The apps of these whose lanes are there. Those with messages in them are consumed from now on.
    async fn look(&self, apps: &[AppId]) -> Result<HashSet<AppId>, LinkError> {
        let topology = self.broker.topology();
        let lanes: Vec<String> = apps.iter().map(|app_id| topology.lane(app_id)).collect();
        let found: HashMap<String, u64> = self.broker.depths(&lanes).await?.into_iter().collect();
        let depths = apps.iter().zip(&lanes).filter_map(|(app, lane)| Some((app.clone(), *found.get(lane)?)));
        let depths: Vec<(AppId, u64)> = depths.collect();
        self.metrics.lanes(&depths, clock::now());
        for (app_id, _) in depths.iter().filter(|(_, messages)| *messages > 0) {
            self.lane_is_filled(app_id);
        }
        Ok(depths.into_iter().map(|(app_id, _)| app_id).collect())
    }
}

/// Whose lanes to ask for next.
#[derive(Debug, Default)]
struct Rounds {
    /// Lanes that were there.
    there: HashSet<AppId>,
    /// Lanes that were missing, with the longest unasked first; and those asked last at the end.
    missing: Vec<AppId>,
    known: HashSet<AppId>,
    asked: Vec<AppId>,
}

impl Rounds {
    /// All lanes that were there, all of apps that are new, and some of the others.
    fn next(&mut self, apps: Vec<AppId>) -> Vec<AppId> {
        let apps: HashSet<AppId> = apps.into_iter().collect();
        self.there.retain(|app| apps.contains(app));
        self.missing.retain(|app| apps.contains(app));
        let new = apps.difference(&self.known).cloned();
        let some = self.missing.drain(..MISSING_AT_ONCE.min(self.missing.len()));
        self.asked = self.there.iter().cloned().chain(new).chain(some).collect();
        self.known = apps;
        self.asked.clone()
    }

    /// Of those asked for, these are there.
    fn found(&mut self, there: HashSet<AppId>) {
        self.missing.extend(self.asked.drain(..).filter(|app| !there.contains(app)));
        self.there = there;
    }

    /// There was no answer.
    fn again(&mut self) {
        self.there.clear();
        self.known.retain(|app| !self.asked.contains(app));
        self.asked.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apps(count: usize) -> Vec<AppId> {
        (0..count).map(|n| AppId::parse(&format!("wx{n:03}")).unwrap()).collect()
    }

    fn found(rounds: &mut Rounds, there: &[AppId]) {
        rounds.found(there.iter().cloned().collect());
    }

    #[test]
    fn every_lane_is_asked_for_at_first_and_then_a_few_of_the_missing_in_turn() {
        let (apps, mut rounds) = (apps(100), Rounds::default());
        assert_eq!(rounds.next(apps.clone()).len(), 100);
        found(&mut rounds, &apps[..3]);
        let mut seen = HashSet::new();
        for _ in 0..5 {
            let asked = rounds.next(apps.clone());
            assert_eq!(asked.len(), 3 + MISSING_AT_ONCE);
            assert!(apps[..3].iter().all(|app| asked.contains(app)));
            seen.extend(asked);
            found(&mut rounds, &apps[..3]);
        }
        assert_eq!(seen.len(), 100, "a lane that another process makes is found in the end");
    }

    #[test]
    fn a_new_app_and_one_without_an_answer_are_asked_for_at_once() {
        let (all, mut rounds) = (apps(60), Rounds::default());
        rounds.next(all[..59].to_vec());
        found(&mut rounds, &[]);
        let asked = rounds.next(all.clone());
        assert!(asked.contains(&all[59]));
        rounds.again();
        let next = rounds.next(all.clone());
        assert!(asked.iter().all(|app| next.contains(app)), "no answer, and not asked again");
        assert!(rounds.next(all[..1].to_vec()).len() <= 1, "an app that is gone is not asked for");
    }
}

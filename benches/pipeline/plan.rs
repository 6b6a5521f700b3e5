//! The cases of a run and their order: round by round, so that each round meets the machine in the same state.

use std::collections::HashMap;

use anyhow::{Context, Result};

use super::case::{Case, Pace, Who};
use super::load::{Kind, Scale};
use super::rig::Rig;
use super::trial::{Figures, Trial};

/// One transient failure in twenty sends.
const FAILING_EVERY: u32 = 20;
/// A busy shop's evening.
const STEADY_PER_SECOND: f64 = 500.0;
const BUSY_SHARE: f64 = 0.7;
/// What a large ledger must stand while old rows are removed from it (`retention.deliveries`).
const FAST_PER_SECOND: f64 = 1_000.0;

/// What the machine sustains, publisher included; the rate that [`BUSY_SHARE`] is a share of.
pub const MEANWHILE: &str = "published meanwhile";
const FLOOR_MEANWHILE: &str = "floor, published meanwhile";

/// All cases of a run of this program.
pub struct Plan {
    scale: Scale,
    rounds: u32,
    seconds: f64,
    cases: Vec<Case>,
}

impl Plan {
    /// Every case, once for each daemon.
    pub fn new(quick: bool, daemons: &[&str], rounds: Option<u32>) -> Self {
        let scale = if quick { QUICK } else { FULL };
        let seconds = if quick { 2.0 } else { 10.0 };
        let mut plan =
            Self { scale, rounds: rounds.unwrap_or(if quick { 1 } else { 3 }), seconds, cases: vec![] };
        plan.floors();
        for which in 0..daemons.len() {
            let suffix = if daemons.len() == 1 { String::new() } else { format!(" {}", daemons[which]) };
            plan.daemon(which, &suffix, quick);
        }
        plan
    }

    pub const fn scale(&self) -> Scale {
        self.scale
    }

    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Only cases of these names, or else whose names contain them, and the floors that they are held against; no words: all.
    pub fn only(mut self, words: &[String]) -> Self {
        if words.is_empty() {
            return self;
        }
        let is_name = |word: &str| self.cases.iter().any(|case| case.name == word);
        let fits = |case: &Case, word: &str| {
            if is_name(word) { case.name == word } else { case.name.contains(word) }
        };
        let wanted = |case: &Case| words.iter().any(|word| fits(case, word));
        let mut needed: Vec<String> = Vec::new();
        for case in self.cases.iter().filter(|case| wanted(case)) {
            needed.push(case.name.clone());
            needed.extend(case.floor.clone());
            if let Pace::Share(_, of) = &case.pace {
                needed.push(of.clone());
            }
        }
        self.cases.retain(|case| needed.contains(&case.name));
        self
    }

    fn floors(&mut self) {
        let floor = |name: &str| Case::new(name, Who::Floor);
        self.cases.push(floor("floor"));
        self.cases.push(floor(FLOOR_MEANWHILE).paced(Pace::AsWorkedOff, 0.0));
        self.cases.push(floor("floor, 80 ms").far());
        self.cases.push(floor("floor at 500/s").paced(Pace::PerSecond(STEADY_PER_SECOND), self.seconds));
    }

    fn daemon(&mut self, which: usize, suffix: &str, quick: bool) {
        let case = |name: &str| Case::new(&format!("{name}{suffix}"), Who::Daemon { which, processes: 1 });
        let two = Case::new(&format!("two processes{suffix}"), Who::Daemon { which, processes: 2 });
        let busy = Pace::Share(BUSY_SHARE, format!("{MEANWHILE}{suffix}"));
        let steady = Pace::PerSecond(STEADY_PER_SECOND);
        let floor_busy = format!("floor at 70%{suffix}");
        let large = |case: Case| Case { large: true, ..case };
        self.cases.extend([
            case("one recipient"),
            case(MEANWHILE).paced(Pace::AsWorkedOff, 0.0).against(FLOOR_MEANWHILE),
            case("ten recipients").kind(Kind::Ten),
            case("30% skips").kind(Kind::Declined),
            case("counted consent").kind(Kind::Counted),
            Case { failing_every: Some(FAILING_EVERY), ..case("5% failures") },
            two,
            case("one recipient, 80 ms").far().against("floor, 80 ms"),
            case("one recipient at 500/s").paced(steady, self.seconds).against("floor at 500/s"),
            Case::new(&floor_busy, Who::Floor).paced(busy.clone(), self.seconds),
            case("one recipient at 70%").paced(busy, self.seconds).against(&floor_busy),
            case("one event for all").kind(Kind::All),
        ]);
        if !quick {
            // Neighbours, because the one is held against the other.
            self.cases.push(case("one recipient, small ledger"));
            self.cases.push(large(case("one recipient, large ledger")));
            let fast = Pace::PerSecond(FAST_PER_SECOND);
            self.cases
                .push(large(case("one recipient at 1000/s, large ledger")).paced(fast, 3.0 * self.seconds));
        }
    }

    /// Measures everything: cases with the large ledger after the others, as filling it changes what the servers hold.
    pub async fn run(&self, rig: &mut Rig) -> Result<Vec<(Case, Figures)>> {
        let mut results = Vec::new();
        let (late, early): (Vec<&Case>, Vec<&Case>) =
            self.cases.iter().partition(|case| case.name.contains("ledger"));
        for round in 1..=self.rounds {
            self.round(rig, round, &early, &mut results).await?;
        }
        if !late.is_empty() {
            rig.age().await?;
        }
        for round in 1..=self.rounds {
            self.round(rig, round, &late, &mut results).await?;
        }
        Ok(results)
    }

    async fn round(
        &self,
        rig: &mut Rig,
        round: u32,
        cases: &[&Case],
        results: &mut Vec<(Case, Figures)>,
    ) -> Result<()> {
        let mut rates = HashMap::new();
        for case in cases {
            rig.runs += 1;
            let per_second = match &case.pace {
                Pace::Full | Pace::AsWorkedOff => None,
                Pace::PerSecond(rate) => Some(*rate),
                Pace::Share(share, of) => Some(share * rates.get(of).context("its model did not run")?),
            };
            let trial = Trial::prepare(rig, case, rig.runs).await?;
            let figures = trial.run(round, per_second).await.with_context(|| case.name.clone())?;
            eprintln!(
                "round {round}: {:32} {:6.0}/s  subject {:4.0} µs  PostgreSQL {:4.0} µs  RabbitMQ {:4.0} µs",
                case.name, figures.rate, figures.subject_us, figures.postgres_us, figures.rabbitmq_us
            );
            rates.insert(case.name.clone(), figures.rate);
            results.push(((*case).clone(), figures));
        }
        Ok(())
    }
}

const FULL: Scale = Scale {
    people: 30_000,
    everybody: 100_000,
    ledger_rows: 5_000_000,
    more_users: 100_000,
    more_rules: 10_000,
};
const QUICK: Scale =
    Scale { people: 2_000, everybody: 2_000, ledger_rows: 10_000, more_users: 1_000, more_rules: 100 };

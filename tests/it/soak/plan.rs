//! What goes wrong, and when: made from a seed before anything starts, so that the same seed makes the same plan.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

/// Between the beginnings of two faults. Shorter, and there would be no work between them; longer, and few would meet.
const GAP_MS: std::ops::Range<u64> = 400..3_500;
/// How long a fault lasts, where it lasts: some are over before anybody's patience is, some are not.
const LASTS_MS: std::ops::Range<u64> = 300..8_000;

/// Everything that is to go wrong, in order.
pub struct Plan {
    pub deeds: Vec<Deed>,
}

/// One thing done to the world.
pub struct Deed {
    /// From the start.
    pub at: Duration,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// SIGKILL, and a new one at once.
    Kill {
        daemon: usize,
    },
    /// SIGTERM, and a new one when it has ended.
    Restart {
        daemon: usize,
    },
    RestartBroker,
    RestartPostgres,
    CrashPostgres,
    /// A daemon's road to a server goes bad…
    Road {
        daemon: usize,
        to: Server,
        how: How,
    },
    /// … and is well again.
    RoadHeals {
        daemon: usize,
        to: Server,
    },
    /// WeChat answers wrongly, until the fault of this number is lifted.
    WeChat {
        number: usize,
        rule: Value,
    },
    WeChatHeals {
        number: usize,
    },
    InvalidateToken {
        app: usize,
    },
    /// Some users change their minds.
    Consent {
        first: u32,
        change: Consent,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Broker,
    Database,
    WeChat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Cut,
    Close,
    Stall,
    HoldAnswers,
    Part,
    Silence,
    Slow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    Withdrawn,
    Given,
    /// For two more messages, and WeChat counts as well.
    Counted,
}

impl Plan {
    pub fn of(seed: u64, length: Duration, processes: usize) -> Self {
        let mut chance = Rng::with_seed(seed);
        let (mut deeds, mut at) = (Vec::new(), Duration::from_secs(2));
        for number in 0.. {
            at += Duration::from_millis(chance.u64(GAP_MS));
            let over = at + Duration::from_millis(chance.u64(LASTS_MS));
            if over >= length {
                break;
            }
            let what = What::any(&mut chance, number, processes);
            let heals = what.heals();
            deeds.push(Deed { at, what });
            deeds.extend(heals.map(|what| Deed { at: over, what }));
        }
        deeds.sort_by_key(|deed| deed.at);
        Self { deeds }
    }

    /// How many of each kind.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for name in self.deeds.iter().filter_map(|deed| deed.what.name()) {
            *counts.entry(name).or_default() += 1;
        }
        counts
    }
}

impl What {
    fn any(chance: &mut Rng, number: usize, processes: usize) -> Self {
        let daemon = chance.usize(..processes);
        match chance.u32(..100) {
            0..14 => Self::Kill { daemon },
            14..18 => Self::Restart { daemon },
            18..21 => Self::RestartBroker,
            21..24 => Self::RestartPostgres,
            24..28 => Self::CrashPostgres,
            28..55 => Self::Road { daemon, to: Server::any(chance), how: How::any(chance) },
            55..85 => Self::WeChat { number, rule: any_rule(chance) },
            85..92 => Self::InvalidateToken { app: chance.usize(..super::stage::APPS.len()) },
            _ => Self::Consent { first: chance.u32(1..=super::stage::USERS), change: Consent::any(chance) },
        }
    }

    /// What ends it, where it lasts.
    fn heals(&self) -> Option<Self> {
        match *self {
            Self::Road { how: How::Cut | How::Silence, .. } => None,
            Self::Road { daemon, to, .. } => Some(Self::RoadHeals { daemon, to }),
            Self::WeChat { number, .. } => Some(Self::WeChatHeals { number }),
            _ => None,
        }
    }

    fn name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Kill { .. } => "kill",
            Self::Restart { .. } => "restart",
            Self::RestartBroker => "broker restart",
            Self::RestartPostgres => "postgres restart",
            Self::CrashPostgres => "postgres crash",
            Self::Road { to: Server::Broker, .. } => "road to broker",
            Self::Road { to: Server::Database, .. } => "road to postgres",
            Self::Road { to: Server::WeChat, .. } => "road to wechat",
            Self::WeChat { .. } => "wechat",
            Self::InvalidateToken { .. } => "token invalidated",
            Self::Consent { .. } => "consent",
            Self::RoadHeals { .. } | Self::WeChatHeals { .. } => return None,
        })
    }
}

impl Server {
    fn any(chance: &mut Rng) -> Self {
        [Self::Broker, Self::Database, Self::WeChat][chance.usize(..3)]
    }
}

impl How {
    fn any(chance: &mut Rng) -> Self {
        let all =
            [Self::Cut, Self::Close, Self::Stall, Self::HoldAnswers, Self::Part, Self::Silence, Self::Slow];
        all[chance.usize(..all.len())]
    }
}

impl Consent {
    fn any(chance: &mut Rng) -> Self {
        [Self::Withdrawn, Self::Given, Self::Counted][chance.usize(..3)]
    }
}

/// A fault rule for the simulator. Not the codes that a pause until the next day or minute follows (45009, 45011), and not
/// a template's own (40037): nothing would end within a soak.
fn any_rule(chance: &mut Rng) -> Value {
    let often = chance.u64(1..=4);
    let trouble = [
        json!({"delay_ms": 1_200}),
        json!({"delay_ms": 2_500}),
        json!("hang"),
        json!("reset"),
        json!("reset_after_send"),
        json!("garbage"),
        json!({"slow_body_ms": 1_000}),
        json!({"http_status": 502, "body": "<html>bad gateway</html>"}),
        json!({"http_status": 503, "headers": {"Retry-After": "1"}}),
        json!({"errcode": -1}),
        json!({"errcode": 40001}),
        json!({"errcode": 43108}),
        json!({"errcode": 48001}),
    ];
    let verdicts = [47003, 40003, 43101];
    match chance.usize(..trouble.len() + verdicts.len() + 2) {
        n if n < trouble.len() => {
            json!({"match": {"path": "send"}, "every": often, "action": trouble[n]})
        }
        n if n < trouble.len() + verdicts.len() => {
            let errcode = verdicts[n - trouble.len()];
            json!({"match": {"path": "send"}, "every": often, "times": 5, "action": {"errcode": errcode}})
        }
        n => {
            let path = ["token", "stable_token"][n - trouble.len() - verdicts.len()];
            json!({"match": {"path": path}, "action": trouble[chance.usize(..10)]})
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Deed { at, what } in &self.deeds {
            writeln!(f, "{:7.1} s  {what:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

#[test]
fn the_same_seed_makes_the_same_plan() {
    let plan = |seed| Plan::of(seed, Duration::from_secs(120), 2).to_string();
    assert_eq!(plan(7), plan(7));
    assert_ne!(plan(7), plan(8));
}

/// Two minutes hold some sixty faults, and no kind of what ends a process may be left to luck for long.
#[test]
fn every_kind_of_crash_is_in_every_few_plans() {
    let mut counts = BTreeMap::new();
    for seed in 0..20 {
        for (fault, count) in Plan::of(seed, Duration::from_secs(120), 2).counts() {
            *counts.entry(fault).or_insert(0) += count;
        }
    }
    for fault in ["kill", "broker restart", "postgres restart", "postgres crash"] {
        assert!(counts.get(fault).is_some_and(|&count| count >= 20), "{fault}: {counts:?}");
    }
}

//! One thing to measure: whom, with which events, at which pace.

use super::load::Kind;

/// The real world's answer takes about this long.
const FAR_MS: u64 = 80;
/// So that 512 requests of one app are under way: an app alone gets four fifths of the slots.
const FAR_IN_FLIGHT: usize = 640;
const FAR_PREFETCH: u16 = 1024;

/// Whom a case measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Floor,
    /// One of the daemons given, in so many processes.
    Daemon {
        which: usize,
        processes: usize,
    },
}

/// At which pace events come.
#[derive(Debug, Clone, PartialEq)]
pub enum Pace {
    /// All are there from the start.
    Full,
    /// Published meanwhile, as fast as they are worked off.
    AsWorkedOff,
    PerSecond(f64),
    /// This share of the rate that another case had in this round.
    Share(f64, String),
}

/// One thing to measure.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    /// The floor to hold against it.
    pub floor: Option<String>,
    pub who: Who,
    pub kind: Kind,
    pub pace: Pace,
    pub latency_ms: u64,
    pub failing_every: Option<u32>,
    /// With the tables that hold years of history.
    pub large: bool,
    pub prefetch: u16,
    pub in_flight: usize,
    /// Of a steady stream.
    pub seconds: f64,
}

impl Case {
    /// The daemon's defaults, nothing special.
    pub fn new(name: &str, who: Who) -> Self {
        Self {
            name: name.to_owned(),
            floor: (who != Who::Floor).then(|| "floor".to_owned()),
            who,
            kind: Kind::One,
            pace: Pace::Full,
            latency_ms: 0,
            failing_every: None,
            large: false,
            prefetch: 800,
            in_flight: 256,
            seconds: 0.0,
        }
    }

    /// With events of this kind.
    pub fn kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// Held against this floor.
    pub fn against(self, floor: &str) -> Self {
        let floor = (self.who != Who::Floor).then(|| floor.to_owned());
        Self { floor, ..self }
    }

    /// With answers that take as long as WeChat's do.
    pub fn far(self) -> Self {
        let far = Self { latency_ms: FAR_MS, prefetch: FAR_PREFETCH, in_flight: FAR_IN_FLIGHT, ..self };
        // The floor knows no shares: it may have all that it is given under way.
        let slots = if far.who == Who::Floor { FAR_IN_FLIGHT * 4 / 5 } else { FAR_IN_FLIGHT };
        Self { in_flight: slots, ..far }
    }

    /// At this pace, for so long if it is a steady stream.
    pub fn paced(self, pace: Pace, seconds: f64) -> Self {
        Self { pace, seconds, ..self }
    }
}

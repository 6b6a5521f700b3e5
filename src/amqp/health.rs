//! How the connections are, for readiness, metrics and people.

use tokio::sync::watch;

/// How the connections are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Consumes fresh events.
    pub events: LinkHealth,
    /// Consumes deliveries that come back, and lanes.
    pub deliveries: LinkHealth,
    /// Consumes dead letters. The daemon's work goes on without.
    pub dead_letters: LinkHealth,
    pub publishing: LinkHealth,
}

/// How one connection is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkHealth {
    /// Connected, with the topology in place.
    pub up: bool,
    /// The broker reads nothing that is published (memory or disk alarm).
    pub blocked: bool,
    /// Why it is not up, for people; none before the first try ended.
    pub problem: Option<String>,
}

impl Health {
    /// The connections that the work needs are up.
    pub fn is_up(&self) -> bool {
        self.needed().into_iter().all(|link| link.up)
    }

    /// How consuming is: as its worse connection.
    pub fn consuming(&self) -> &LinkHealth {
        if self.events.up { &self.deliveries } else { &self.events }
    }

    /// What is wrong, in one line.
    pub fn problem(&self) -> Option<&str> {
        let down = self.needed().into_iter().find(|link| !link.up)?;
        Some(down.problem.as_deref().unwrap_or("connecting"))
    }

    fn needed(&self) -> [&LinkHealth; 3] {
        [&self.events, &self.deliveries, &self.publishing]
    }
}

/// Notes how one connection is; readers wake only when that is news.
pub(super) fn update(
    health: &watch::Sender<Health>,
    side: fn(&mut Health) -> &mut LinkHealth,
    link: LinkHealth,
) {
    health.send_if_modified(|health| {
        let side = side(health);
        let changed = *side != link;
        *side = link;
        changed
    });
}

//! How the connections are, for readiness, metrics and people.

use tokio::sync::watch;

/// How both connections are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    pub consuming: LinkHealth,
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
    pub trouble: Option<String>,
}

impl Health {
    /// Both connections are up.
    pub fn is_up(&self) -> bool {
        self.consuming.up && self.publishing.up
    }

    /// What is wrong, in one line.
    pub fn trouble(&self) -> Option<&str> {
        let troubles = [&self.consuming, &self.publishing].into_iter().filter(|link| !link.up);
        troubles.map(|link| link.trouble.as_deref().unwrap_or("connecting")).next()
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

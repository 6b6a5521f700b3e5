//! How far it is: a bar on a terminal, a line now and then elsewhere. On stderr, so that stdout holds the account alone.

use std::time::{Duration, Instant};

use crate::cli::output::{is_watched, note, unfinished_line};
use crate::db::replay::Standing;

/// Between two lines where nobody watches: an hour's replay makes a log of a page.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Between two drawings of the bar.
const DRAW_EVERY: Duration = Duration::from_millis(100);
const BAR_CHARS: i64 = 30;

pub struct Progress {
    is_terminal: bool,
    told: Option<Instant>,
    /// What stands there already.
    shown: String,
}

impl Progress {
    pub fn new() -> Self {
        Self { is_terminal: is_watched(), told: None, shown: String::new() }
    }

    /// Hears of every step and shows some of them.
    pub fn tell(&mut self, standing: &Standing) {
        let every = if self.is_terminal { DRAW_EVERY } else { LINE_EVERY };
        let done = standing.published + standing.refused;
        let is_time = self.told.is_none_or(|told| told.elapsed() >= every);
        if !is_time && done < standing.dead_letters {
            return;
        }
        let Standing { dead_letters, published, refused, .. } = standing;
        let words = format!("{published} of {dead_letters} published, {refused} refused");
        if words == self.shown {
            return;
        }
        self.told = Some(Instant::now());
        if self.is_terminal {
            let full = if *dead_letters == 0 {
                BAR_CHARS
            } else {
                (done * BAR_CHARS / dead_letters).clamp(0, BAR_CHARS)
            };
            let bar: String = (0..BAR_CHARS).map(|at| if at < full { '█' } else { '░' }).collect();
            unfinished_line("\r", &format!("{bar} {words} "));
        } else {
            note!("{words}");
        }
        self.shown = words;
    }

    /// Leaves the bar's line.
    pub fn end(&self) {
        if self.is_terminal && self.told.is_some() {
            note!("");
        }
    }
}

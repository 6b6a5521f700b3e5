//! Progress: a bar on a terminal, otherwise a line every few seconds. On stderr, so that stdout has only the report.

use std::time::{Duration, Instant};

use crate::cli::output::{is_watched, note, unfinished_line};
use crate::db::replay::Standing;

/// Between two lines without a terminal: a replay of an hour makes a page of log.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Between two drawings of the bar.
const DRAW_EVERY: Duration = Duration::from_millis(100);
const BAR_CHARS: i64 = 30;

pub struct Progress {
    is_terminal: bool,
    told: Option<Instant>,
    /// The text shown last.
    shown: String,
}

impl Progress {
    pub fn new() -> Self {
        Self { is_terminal: is_watched(), told: None, shown: String::new() }
    }

    /// Is called for every step and shows some of them.
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

    /// Ends the line of the bar.
    pub fn end(&self) {
        if self.is_terminal && self.told.is_some() {
            note!("");
        }
    }
}

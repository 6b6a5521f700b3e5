//! Dead letters in the log: one line a second for each kind, with a count and one example. A publisher whose events are all
//! malformed must not fill the log.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::envelope::Envelope;
use super::job::Job;
use crate::domain::dead_letter::{DeadLetter, Reason};
use crate::domain::event::Event;
use crate::domain::ids::AppId;
use crate::domain::outcome::DeadReason;

/// Time between two lines of one kind.
const WINDOW: Duration = Duration::from_secs(1);
/// Kinds kept apart at a time. Reasons and codes are few, so only very many apps that fail together come near it; those
/// beyond are counted without naming their app.
const MAX_KINDS: usize = 500;
/// As long as an identifier may be. An example is for searching; whatever a publisher put there stays bounded.
const MAX_EXAMPLE_CHARS: usize = 128;

/// What makes dead letters alike. Only what has few values: a publisher chooses neither fields nor texts of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    reason: Reason,
    /// Of a registered app; `None` where the message named none that is known.
    app_id: Option<AppId>,
    errcode: Option<i64>,
}

/// One of them, for the line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Example {
    event_id: Option<String>,
    company_no: Option<String>,
    routing_key: String,
    field: Option<String>,
    problem: Option<String>,
}

/// What one line says.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    kind: Kind,
    /// Dead letters of this kind since its last line.
    count: u64,
    /// The newest of them.
    example: Example,
}

/// Logs dead letters. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct DeadLetterLog(Arc<Mutex<Tally>>);

impl DeadLetterLog {
    /// A message that never became an event.
    pub(super) fn of_message(
        &self,
        envelope: &Envelope,
        reason: DeadReason,
        field: Option<&str>,
        problem: &str,
    ) {
        let example = Example {
            event_id: envelope.message.message_id.clone().or_else(|| named_event(&envelope.message.body)),
            field: field.map(str::to_owned),
            problem: Some(problem.to_owned()),
            ..Example::of(envelope)
        };
        self.note(Kind { reason: reason.into(), app_id: None, errcode: None }, example);
    }

    /// A sound event that cannot be planned.
    pub(super) fn of_event(&self, event: &Event, envelope: &Envelope, reason: DeadReason) {
        // Publishers can invent apps without end.
        let app_id = Some(event.app_id.clone()).filter(|_| reason != DeadReason::UnknownApp);
        let problem =
            (reason == DeadReason::UnknownApp).then(|| format!("app {} is not registered", event.app_id));
        self.note(
            Kind { reason: reason.into(), app_id, errcode: None },
            Example { problem, ..Example::of(envelope).naming(event) },
        );
    }

    /// One delivery.
    pub(super) fn of_delivery(&self, job: &Job, dead_letter: &DeadLetter) {
        let event = &job.delivery.event;
        let DeadLetter { reason, class, errcode, errmsg, field, .. } = dead_letter.clone();
        let kind = Kind { reason, app_id: Some(event.app_id.clone()), errcode };
        // The code says what WeChat's text says; ours says what no code does.
        let problem = errmsg.filter(|_| class.is_none());
        self.note(kind, Example { field, problem, ..Example::of(&job.envelope).naming(event) });
    }

    /// Logs what has been counted and not said yet: the process is about to end.
    pub(super) fn finish(&self) {
        self.lock().drain().into_iter().for_each(Line::log);
    }

    fn note(&self, kind: Kind, example: Example) {
        let mut tally = self.lock();
        let line = tally.note(Instant::now(), kind, example);
        let must_tick = !mem::replace(&mut tally.is_ticking, true);
        drop(tally);
        line.into_iter().for_each(Line::log);
        if must_tick {
            tokio::spawn(self.clone().tick());
        }
    }

    /// Says what was held back, for as long as there are dead letters.
    async fn tick(self) {
        loop {
            sleep(WINDOW).await;
            let mut tally = self.lock();
            let lines = tally.due(Instant::now());
            tally.is_ticking = !tally.kinds.is_empty();
            let goes_on = tally.is_ticking;
            drop(tally);
            lines.into_iter().for_each(Line::log);
            if !goes_on {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        // Nothing panics under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kinds that had a line lately, and what has come since.
#[derive(Default)]
struct Tally {
    kinds: HashMap<Kind, Held>,
    is_ticking: bool,
}

struct Held {
    since: Instant,
    count: u64,
    example: Example,
}

impl Tally {
    /// Counts one; the line to write at once, if its kind had none lately.
    fn note(&mut self, now: Instant, kind: Kind, example: Example) -> Option<Line> {
        let kind = if self.kinds.len() < MAX_KINDS || self.kinds.contains_key(&kind) {
            kind
        } else {
            Kind { app_id: None, ..kind }
        };
        match self.kinds.get_mut(&kind) {
            Some(held) if now.duration_since(held.since) < WINDOW => {
                held.count += 1;
                held.example = example;
                None
            }
            Some(held) => {
                let count = mem::take(&mut held.count) + 1;
                held.since = now;
                Some(Line { kind, count, example })
            }
            None => {
                self.kinds.insert(kind.clone(), Held { since: now, count: 0, example: Example::default() });
                Some(Line { kind, count: 1, example })
            }
        }
    }

    /// Lines whose second is over. A kind that none has come of is forgotten.
    fn due(&mut self, now: Instant) -> Vec<Line> {
        let is_over = |held: &Held| now.duration_since(held.since) >= WINDOW;
        self.kinds.retain(|_, held| held.count > 0 || !is_over(held));
        let over = self.kinds.iter_mut().filter(|(_, held)| is_over(held));
        over.map(|(kind, held)| {
            held.since = now;
            held.line(kind)
        })
        .collect()
    }

    fn drain(&mut self) -> Vec<Line> {
        let counted = self.kinds.iter_mut().filter(|(_, held)| held.count > 0);
        counted.map(|(kind, held)| held.line(kind)).collect()
    }
}

impl Held {
    fn line(&mut self, kind: &Kind) -> Line {
        Line { kind: kind.clone(), count: mem::take(&mut self.count), example: mem::take(&mut self.example) }
    }
}

impl Line {
    fn log(self) {
        let Self { kind, count, example } = self;
        let app_id = kind.app_id.as_ref().map(AppId::as_str);
        tracing::warn!(
            reason = %kind.reason, app_id, errcode = kind.errcode, count, event_id = example.event_id,
            company_no = example.company_no, routing_key = example.routing_key, field = example.field,
            problem = example.problem, "dead letters: the event is the newest of them; `dlq groups` shows all",
        );
    }
}

impl Example {
    fn of(envelope: &Envelope) -> Self {
        Self { routing_key: cut(&envelope.routing_key), ..Self::default() }
    }

    fn naming(self, event: &Event) -> Self {
        let (event_id, company_no) = (event.event_id.to_string(), event.company_no.to_string());
        Self { event_id: Some(event_id), company_no: Some(company_no), ..self }
    }
}

/// The event id in a body that may be anything.
fn named_event(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        event_id: Option<String>,
    }

    let named: Named = serde_json::from_slice(body).ok()?;
    named.event_id.map(|id| cut(&id))
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_EXAMPLE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(app_id: &str) -> Kind {
        Kind {
            reason: DeadReason::Content.into(),
            app_id: Some(app_id.parse().unwrap()),
            errcode: Some(47003),
        }
    }

    fn example(event_id: &str) -> Example {
        Example { event_id: Some(event_id.to_owned()), ..Example::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_of_a_kind_is_said_at_once_and_the_rest_once_a_second() {
        let (mut tally, begun) = (Tally::default(), Instant::now());
        let line = |count, id| Line { kind: kind("wx1"), count, example: example(id) };
        assert_eq!(tally.note(begun, kind("wx1"), example("e-1")), Some(line(1, "e-1")));
        for id in ["e-2", "e-3"] {
            assert_eq!(tally.note(begun, kind("wx1"), example(id)), None);
        }
        assert!(tally.note(begun, kind("wx2"), example("e-4")).is_some(), "another kind has its own line");
        assert_eq!(tally.due(begun), []);
        assert_eq!(tally.due(begun + WINDOW), [line(2, "e-3")]);
        assert_eq!(tally.due(begun + 2 * WINDOW), []);
        assert!(tally.kinds.is_empty(), "what is over is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_counted_is_left_unsaid_at_the_end() {
        let (mut tally, begun) = (Tally::default(), Instant::now());
        tally.note(begun, kind("wx1"), example("e-1"));
        tally.note(begun, kind("wx1"), example("e-2"));
        let counts: Vec<u64> = tally.drain().into_iter().map(|line| line.count).collect();
        assert_eq!(counts, [1]);
        assert_eq!(tally.drain(), [], "and nothing is said twice");
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_are_bounded() {
        let (mut tally, now) = (Tally::default(), Instant::now());
        let lines =
            (0..2 * MAX_KINDS).filter(|n| tally.note(now, kind(&format!("wx{n}")), example("e")).is_some());
        assert_eq!(lines.count(), MAX_KINDS + 1, "those beyond share one line");
    }

    #[test]
    fn a_body_is_looked_into_for_its_event_id() {
        assert_eq!(named_event(br#"{"event_id": "pay-1", "data": 7}"#).as_deref(), Some("pay-1"));
        assert_eq!(named_event(b"not json"), None);
        assert_eq!(
            named_event(format!(r#"{{"event_id": "{}"}}"#, "x".repeat(999)).as_bytes()).unwrap().len(),
            128
        );
    }
}

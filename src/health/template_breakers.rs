//! Which templates of an app may be sent: one that WeChat refuses is paused alone, and tried by one delivery now and then.
//!
//! Deliveries of a paused template go round the ladder, not into the app's lane: they would fill its window there and stop the
//! app's other templates. What WeChat refuses dies at once, so a template that is broken costs the deliveries that were
//! in flight when the first answer came, and then one a probe.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::notices::{Change, Notice};
use super::pause::{Ends, Facts};
use crate::clock;
use crate::domain::answer::{Class, SendAnswer};
use crate::domain::ids::TemplateId;
use crate::domain::pause::PauseReason;

/// Until the first probe. Each probe of a template that stays broken is a dead letter.
const FIRST_PROBE: Duration = Duration::from_secs(10);
/// The wait doubles up to this: longer, and a template that was fixed would seem broken for too long.
const LONGEST_PROBE: Duration = Duration::from_secs(600);
/// What waits for an operator looks again this often: two hops a minute cost little, and a `resume` is soon felt.
const LOOK_AT_HAND_EVERY: Duration = Duration::from_secs(30);
/// Paused templates of an app. A publisher can invent ids, and each is refused; those beyond are not paused, they die.
const MAX_PAUSED: usize = 1_000;
/// A paused template that nobody has wanted for so long is forgotten: its next message tries anew.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);

/// The paused templates of one app.
#[derive(Default)]
pub(super) struct TemplateBreakers(Mutex<HashMap<TemplateId, TemplatePause>>);

#[derive(Default)]
struct TemplatePause {
    by_hand: Option<Arc<Facts>>,
    own: Option<Own>,
}

struct Own {
    facts: Arc<Facts>,
    ends: Ends,
    /// The wait before the next probe.
    wait: Duration,
    due_at: Instant,
}

/// What a delivery that asks finds its template's breaker to be.
pub(super) enum TemplatePass {
    Closed,
    /// This delivery tries. The breaker must be told how it went, or that it did not come to an answer.
    Probing,
    /// Not before that time.
    OpenUntil(Timestamp),
}

impl TemplateBreakers {
    /// Asks for one delivery.
    pub(super) fn pass(&self, template_id: &TemplateId) -> TemplatePass {
        match self.lock().get_mut(template_id) {
            None => TemplatePass::Closed,
            Some(TemplatePause { by_hand: Some(_), .. }) => {
                TemplatePass::OpenUntil(in_time(LOOK_AT_HAND_EVERY))
            }
            Some(TemplatePause { own: Some(own), .. }) if own.ends.is_due() => {
                own.ends = Ends::Probing;
                TemplatePass::Probing
            }
            Some(TemplatePause { own, .. }) => {
                let due = own.as_ref().and_then(|own| own.ends.due());
                TemplatePass::OpenUntil(due.unwrap_or_else(|| in_time(FIRST_PROBE)))
            }
        }
    }

    /// Until when a delivery need not even ask.
    pub(super) fn paused_until(&self, template_id: &TemplateId) -> Option<Timestamp> {
        let templates = self.lock();
        let pause = templates.get(template_id)?;
        match (&pause.by_hand, &pause.own) {
            (Some(_), _) => Some(in_time(LOOK_AT_HAND_EVERY)),
            (None, Some(own)) if own.ends.is_due() => None,
            (None, own) => Some(own.as_ref()?.ends.due().unwrap_or_else(|| in_time(FIRST_PROBE))),
        }
    }

    /// Takes note of WeChat's answer.
    pub(super) fn learn(
        &self,
        template_id: &TemplateId,
        class: Class,
        answer: &SendAnswer,
    ) -> Option<Change> {
        match class {
            Class::Template => self.refused(template_id, answer),
            // Whatever else it says: it knows the template.
            Class::Sent | Class::Recipient(_) | Class::Content => self.lift(template_id),
            _ => None,
        }
    }

    fn refused(&self, template_id: &TemplateId, answer: &SendAnswer) -> Option<Change> {
        let mut templates = self.lock();
        if !templates.contains_key(template_id) && templates.len() >= MAX_PAUSED {
            return None;
        }
        let pause = templates.entry(template_id.clone()).or_default();
        match &mut pause.own {
            Some(own) if own.ends == Ends::Probing => {
                own.wait_for((own.wait * 2).min(LONGEST_PROBE));
                None
            }
            // Others were in flight when it was paused.
            Some(_) => None,
            None => {
                let facts = Arc::new(Facts::of_answer(answer));
                pause.own = Some(Own::new(Arc::clone(&facts)));
                Some(Change::Paused(facts))
            }
        }
    }

    fn lift(&self, template_id: &TemplateId) -> Option<Change> {
        let mut templates = self.lock();
        let lifted = templates.get_mut(template_id)?.own.take().map(|_| Change::Resumed);
        templates.retain(|_, pause| pause.is_open());
        lifted
    }

    /// A probe has ended without telling anything: the next one may try soon.
    pub(super) fn probe_told_nothing(&self, template_id: &TemplateId) {
        if let Some(TemplatePause { own: Some(own), .. }) = self.lock().get_mut(template_id)
            && own.ends == Ends::Probing
        {
            let wait = own.wait;
            own.wait_for(FIRST_PROBE);
            own.wait = wait;
        }
    }

    /// An operator wants it tried at once.
    pub(super) fn probe_now(&self, template_id: &TemplateId) {
        if let Some(TemplatePause { own: Some(own), .. }) = self.lock().get_mut(template_id) {
            own.wait_for(Duration::ZERO);
            own.wait = FIRST_PROBE;
        }
    }

    /// These, and no others, are paused by hand. Answers what is new.
    pub(super) fn by_hand(&self, paused: &HashMap<TemplateId, Arc<Facts>>) -> Vec<(TemplateId, Change)> {
        let mut templates = self.lock();
        let mut changes = Vec::new();
        for (template_id, pause) in templates.iter_mut() {
            if pause.by_hand.is_some() && !paused.contains_key(template_id) {
                pause.by_hand = None;
                changes.push((template_id.clone(), Change::Resumed));
            }
        }
        for (template_id, facts) in paused {
            let pause = templates.entry(template_id.clone()).or_default();
            if pause.by_hand.replace(Arc::clone(facts)).is_none() {
                changes.push((template_id.clone(), Change::Paused(Arc::clone(facts))));
            }
        }
        templates.retain(|_, pause| pause.is_open());
        changes
    }

    /// How many are paused, and what there is to post of those that we paused ourselves. Forgets what nobody wants.
    pub(super) fn notices(&self) -> (usize, Vec<Notice>) {
        let mut templates = self.lock();
        let now = Instant::now();
        for paused in templates.values_mut() {
            paused.own = paused.own.take().filter(|own| own.due_at + FORGOTTEN_AFTER > now);
        }
        templates.retain(|_, pause| pause.is_open());
        let of_one = |(template_id, paused): (&TemplateId, &TemplatePause)| {
            let own = paused.own.as_ref()?;
            Some(Notice {
                template_id: Some(template_id.clone()),
                reason: PauseReason::Template,
                facts: Arc::clone(&own.facts),
                until: own.ends.due(),
            })
        };
        (templates.len(), templates.iter().filter_map(of_one).collect())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TemplateId, TemplatePause>> {
        // Nothing panics under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TemplatePause {
    fn is_open(&self) -> bool {
        self.by_hand.is_some() || self.own.is_some()
    }
}

impl Own {
    fn new(facts: Arc<Facts>) -> Self {
        let ends = Ends::by_probe_in(FIRST_PROBE);
        Self { facts, ends, wait: FIRST_PROBE, due_at: Instant::now() + FIRST_PROBE }
    }

    fn wait_for(&mut self, wait: Duration) {
        (self.wait, self.due_at) = (wait, Instant::now() + wait);
        self.ends = Ends::by_probe_in(wait);
    }
}

fn in_time(wait: Duration) -> Timestamp {
    clock::now().saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(errcode: i64) -> SendAnswer {
        SendAnswer::Read { errcode, errmsg: String::new(), rid: None, msgid: None }
    }

    fn template(text: &str) -> TemplateId {
        text.parse().unwrap()
    }

    fn refused(templates: &TemplateBreakers) -> Option<Change> {
        templates.learn(&template("T1"), Class::Template, &says(40037))
    }

    fn is_open(templates: &TemplateBreakers, text: &str) -> bool {
        matches!(templates.pass(&template(text)), TemplatePass::Closed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_template_is_paused_alone_and_tried_ever_more_rarely() {
        let templates = TemplateBreakers::default();
        assert!(matches!(refused(&templates), Some(Change::Paused(_))));
        assert_eq!(refused(&templates), None, "those in flight tell nothing new");
        assert!(is_open(&templates, "T2"));
        for wait in [10, 20, 40, 80, 160, 320, 600, 600].map(Duration::from_secs) {
            tokio::time::advance(wait - Duration::from_millis(1)).await;
            assert!(matches!(templates.pass(&template("T1")), TemplatePass::OpenUntil(_)), "{wait:?}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(matches!(templates.pass(&template("T1")), TemplatePass::Probing), "{wait:?}");
            assert!(
                matches!(templates.pass(&template("T1")), TemplatePass::OpenUntil(_)),
                "two probes at once"
            );
            assert_eq!(refused(&templates), None);
        }
        assert_eq!(templates.learn(&template("T1"), Class::Sent, &says(0)), Some(Change::Resumed));
        assert!(is_open(&templates, "T1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_tells_nothing_lets_another_try() {
        let templates = TemplateBreakers::default();
        refused(&templates);
        tokio::time::advance(FIRST_PROBE).await;
        assert!(matches!(templates.pass(&template("T1")), TemplatePass::Probing));
        templates.probe_told_nothing(&template("T1"));
        tokio::time::advance(FIRST_PROBE).await;
        assert!(matches!(templates.pass(&template("T1")), TemplatePass::Probing));
    }

    #[tokio::test(start_paused = true)]
    async fn an_operators_pause_stands_over_wechats_answers() {
        let templates = TemplateBreakers::default();
        let by_hand = HashMap::from([(template("T1"), Arc::new(Facts::said(None, "ann: wrong wording")))]);
        assert!(matches!(templates.by_hand(&by_hand)[..], [(_, Change::Paused(_))]));
        assert_eq!(templates.learn(&template("T1"), Class::Sent, &says(0)), None);
        tokio::time::advance(LONGEST_PROBE * 2).await;
        assert!(matches!(templates.pass(&template("T1")), TemplatePass::OpenUntil(_)), "it is not probed");
        assert_eq!(templates.by_hand(&HashMap::new()), [(template("T1"), Change::Resumed)]);
        assert!(is_open(&templates, "T1"));
    }

    #[tokio::test(start_paused = true)]
    async fn invented_templates_fill_no_memory() {
        let templates = TemplateBreakers::default();
        for n in 0..2 * MAX_PAUSED {
            templates.learn(&template(&format!("T{n}")), Class::Template, &says(40037));
        }
        assert_eq!(templates.notices().0, MAX_PAUSED);
        tokio::time::advance(FORGOTTEN_AFTER + FIRST_PROBE).await;
        assert_eq!(templates.notices().0, 0);
    }
}

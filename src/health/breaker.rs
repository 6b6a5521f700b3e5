//! One app's breaker: closed while its messages are sent, open while they wait, probing while one delivery tries.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::notices::{Notice, Reporter};
use super::outage_detector::{Failure, OutageDetector, Verdict};
use super::pause::{Ends, Facts, Pause, State, first_probe, probe_every};
use super::template_breakers::{TemplateBreakers, TemplatePass};
use crate::clock;
use crate::domain::answer::{Class, SendAnswer};
use crate::domain::ids::{AppId, Openid, TemplateId};
use crate::domain::pause::PauseReason;

/// Whether one app may be sent to, and which of its templates.
pub struct Breaker {
    pub(super) app_id: AppId,
    state: watch::Sender<State>,
    outage_detector: watch::Sender<OutageDetector>,
    templates: TemplateBreakers,
    hasher: RandomState,
    reporter: Reporter,
}

/// A request that WeChat has answered, or not, and what that means.
pub struct Answered<'a> {
    pub openid: &'a Openid,
    pub template_id: &'a TemplateId,
    pub begun: Instant,
    pub answer: &'a SendAnswer,
    pub class: Class,
}

/// What a delivery that asks finds the breaker to be.
pub enum Pass {
    /// It may be sent.
    Closed,
    /// This delivery, and no other for now, tries whether the app works again.
    Probing(Probe),
    /// The app is paused.
    Open,
}

/// The right to try a paused app once. Dropped without an answer, it lets another try later.
pub struct Probe(Arc<Breaker>);

/// The same for a template.
pub struct TemplateProbe(Arc<Breaker>, TemplateId);

impl Breaker {
    /// Closed.
    pub(super) fn new(app_id: &AppId, reporter: &Reporter) -> Self {
        Self {
            app_id: app_id.clone(),
            state: watch::Sender::default(),
            outage_detector: watch::Sender::default(),
            templates: TemplateBreakers::default(),
            hasher: RandomState::new(),
            reporter: reporter.clone(),
        }
    }

    /// Follows the breaker's state.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Is the app paused, so that its messages wait in its lane?
    pub fn is_open(&self) -> bool {
        self.state.borrow().is_open()
    }

    /// When the app will be tried next, as far as that is known, if it is paused.
    pub fn paused_until(&self) -> Option<Timestamp> {
        self.state.borrow().ends().map(|ends| ends.due().unwrap_or_else(clock::now))
    }

    /// Until when a template of the app is paused, where it is and no delivery may try it.
    pub fn template_paused_until(&self, template_id: &TemplateId) -> Option<Timestamp> {
        self.templates.paused_until(template_id)
    }

    /// Asks for one delivery.
    pub fn pass(self: &Arc<Self>) -> Pass {
        let mut pass = Pass::Open;
        self.state.send_if_modified(|state| match state {
            State { by_hand: None, own: None } => {
                pass = Pass::Closed;
                false
            }
            State { by_hand: None, own: Some(Pause { ends, .. }) } if ends.is_due() => {
                *ends = Ends::Probing;
                pass = Pass::Probing(Probe(Arc::clone(self)));
                true
            }
            _ => false,
        });
        pass
    }

    /// Asks for one delivery of a template: may it go, and is it the one that tries? Else it may come at the time answered.
    pub fn template_pass(
        self: &Arc<Self>,
        template_id: &TemplateId,
    ) -> Result<Option<TemplateProbe>, Timestamp> {
        match self.templates.pass(template_id) {
            TemplatePass::Closed => Ok(None),
            TemplatePass::Probing => Ok(Some(TemplateProbe(Arc::clone(self), template_id.clone()))),
            TemplatePass::OpenUntil(due) => Err(due),
        }
    }

    /// Takes note of WeChat's answer to a send. A failure comes back: whose it is may take a moment to show.
    pub fn learn(&self, answered: &Answered<'_>) -> Option<Failure> {
        let Answered { template_id, begun, answer, class, .. } = *answered;
        if matches!(class, Class::Transient | Class::Unlisted | Class::Unknown) {
            return Some(self.learn_of_failure(answered));
        }
        self.outage_detector.send_if_modified(|outage_detector| outage_detector.good(begun, Instant::now()));
        if let Some(change) = self.templates.learn(template_id, class, answer) {
            self.reporter.template(&self.app_id, template_id, &change, PauseReason::Template);
        }
        match class.pause_reason() {
            Some(reason) => self.pause(reason, first_probe(class), || Facts::of_answer(answer)),
            // A rejected token says nothing about the rest.
            None if class == Class::Token => {}
            // Answers to what was under way change nothing about our own count.
            None if self.is_kept_by_quota() => {}
            None => self.close(),
        }
        None
    }

    fn learn_of_failure(&self, answered: &Answered<'_>) -> Failure {
        let user = self.hasher.hash_one(answered.openid);
        let failure = Failure { user, begun: answered.begun, ended: Instant::now() };
        let mut is_away = false;
        self.outage_detector.send_modify(|outage_detector| is_away = outage_detector.failure(failure));
        if is_away && !self.is_open() {
            let ends = Ends::by_probe_in(probe_every(PauseReason::Away));
            self.pause(PauseReason::Away, ends, || Facts::of_answer(answered.answer));
        }
        failure
    }

    /// Whose this failure is, by what is known now.
    pub fn verdict(&self, failure: &Failure) -> Verdict {
        self.outage_detector.borrow().verdict(failure)
    }

    /// The same, with the patience to wait for what others meet.
    pub async fn verdict_within(&self, failure: &Failure, patience: Duration) -> Verdict {
        let mut outage_detector = self.outage_detector.subscribe();
        let decided = outage_detector
            .wait_for(|outage_detector| outage_detector.verdict(failure) != Verdict::Undecided);
        let _ = tokio::time::timeout(patience, decided).await;
        self.verdict(failure)
    }

    /// The refresher gets no token: nothing can be sent until it does.
    pub fn token_lost(&self, reason: PauseReason, facts: Facts) {
        self.pause(reason, Ends::ByToken, || facts);
    }

    /// The refresher has a token.
    pub fn token_back(&self) {
        if self.state.borrow().own.as_ref().is_some_and(|own| own.ends == Ends::ByToken) {
            self.close();
        }
    }

    /// The app's own `daily_quota` is used up.
    pub fn quota_used_up(&self, due: Timestamp) {
        self.pause(PauseReason::Quota, Ends::ByQuota { due }, || {
            Facts::said(None, "the app's daily_quota is used up")
        });
    }

    /// There is something left of it again.
    pub fn quota_back(&self) {
        if self.is_kept_by_quota() {
            self.close();
        }
    }

    fn is_kept_by_quota(&self) -> bool {
        self.state.borrow().own.as_ref().is_some_and(|own| matches!(own.ends, Ends::ByQuota { .. }))
    }

    /// Ends the pause, whatever WeChat or the refresher had begun it for.
    pub fn close(&self) {
        // Most answers find the breaker closed: look before writing, which would wake every follower.
        if self.state.borrow().own.is_some() {
            self.change(|state| state.own = None);
        }
    }

    /// Opens the breaker; a pause that goes on for the same reason keeps its facts.
    fn pause(&self, reason: PauseReason, ends: Ends, facts: impl FnOnce() -> Facts) {
        self.change(|state| {
            let same = state.own.take().filter(|own| own.reason == reason);
            let facts = same.map_or_else(|| Arc::new(facts()), |own| own.facts);
            state.own = Some(Pause { reason, ends, facts });
        });
    }

    /// What operators say of this app.
    pub(super) fn by_hand(&self, app: Option<Arc<Facts>>, templates: &HashMap<TemplateId, Arc<Facts>>) {
        if self.state.borrow().by_hand != app {
            self.change(|state| state.by_hand = app);
        }
        for (template_id, change) in self.templates.by_hand(templates) {
            self.reporter.template(&self.app_id, &template_id, &change, PauseReason::ByHand);
        }
    }

    /// An operator wants the app, or one of its templates, tried at once.
    pub fn probe_now(&self, template_id: Option<&TemplateId>) {
        match template_id {
            Some(template_id) => self.templates.probe_now(template_id),
            None => {
                self.state.send_if_modified(|state| match &mut state.own {
                    Some(Pause { ends: ends @ Ends::ByProbe { .. }, .. }) => {
                        *ends = Ends::by_probe_in(Duration::ZERO);
                        true
                    }
                    _ => false,
                });
            }
        }
    }

    /// Changes the state, and reports it where another reason is to be shown.
    fn change(&self, how: impl FnOnce(&mut State)) {
        let (mut before, mut after) = (None, State::default());
        self.state.send_modify(|state| {
            before = state.shown().map(|(reason, _)| reason);
            how(state);
            after = state.clone();
        });
        match (before, after.shown()) {
            (before, Some((reason, facts))) if before != Some(reason) => {
                self.reporter.app_paused(&self.app_id, reason, facts);
            }
            (Some(before), None) => self.reporter.app_resumed(&self.app_id, before),
            _ => {}
        }
    }

    pub(super) fn notices(&self) -> Vec<Notice> {
        let (paused, mut notices) = self.templates.notices();
        self.reporter.metrics.templates_paused(&self.app_id, paused);
        if let Some(Pause { reason, ends, facts }) = self.state.borrow().own.clone() {
            notices.push(Notice { template_id: None, reason, facts, until: ends.due() });
        }
        notices
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.state.send_if_modified(|state| match &mut state.own {
            Some(Pause { reason, ends: ends @ Ends::Probing, .. }) => {
                *ends = Ends::by_probe_in(probe_every(*reason));
                true
            }
            _ => false,
        });
    }
}

impl Drop for TemplateProbe {
    fn drop(&mut self) {
        self.0.templates.probe_ended_without_answer(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::breakers::Breakers;
    use super::super::pause::PROBE_EVERY;
    use super::*;
    use crate::domain::message_kind::MessageKind;
    use crate::metrics::Metrics;

    fn breaker() -> Arc<Breaker> {
        Breakers::new(Arc::new(Metrics::new())).of(&"wx1".parse().unwrap())
    }

    /// Lets one user's request have this answer.
    fn answered(breaker: &Breaker, name: &str, answer: &SendAnswer) -> Option<Failure> {
        let (openid, template_id) = (name.parse().unwrap(), "T1".parse().unwrap());
        let (begun, class) = (Instant::now(), MessageKind::Subscribe.classify(answer));
        breaker.learn(&Answered { openid: &openid, template_id: &template_id, begun, answer, class })
    }

    fn says(errcode: i64) -> SendAnswer {
        SendAnswer::Read { errcode, errmsg: String::new(), rid: None, msgid: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_app_is_tried_by_one_probe_at_a_time() {
        let breaker = breaker();
        answered(&breaker, "anna", &says(48001));
        assert!(matches!(breaker.pass(), Pass::Open));
        tokio::time::advance(PROBE_EVERY).await;
        let Pass::Probing(probe) = breaker.pass() else { panic!("no probe") };
        assert!(matches!(breaker.pass(), Pass::Open), "two probes at once");
        drop(probe);
        assert!(matches!(breaker.pass(), Pass::Open), "a probe without an answer changes nothing");
        tokio::time::advance(PROBE_EVERY).await;
        let Pass::Probing(_probe) = breaker.pass() else { panic!("no second probe") };
        answered(&breaker, "anna", &says(0));
        assert!(matches!(breaker.pass(), Pass::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_for_want_of_a_token_ends_with_a_token_only() {
        let breaker = breaker();
        breaker.token_lost(PauseReason::SecretWrong, Facts::said(Some(40125), "invalid appsecret"));
        tokio::time::advance(PROBE_EVERY * 10).await;
        assert!(matches!(breaker.pass(), Pass::Open));
        breaker.token_back();
        assert!(matches!(breaker.pass(), Pass::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_verdict_comes_as_soon_as_others_were_met_or_not_at_all() {
        let breaker = breaker();
        let first = answered(&breaker, "anna", &SendAnswer::TimedOut).unwrap();
        let waiting = breaker.verdict_within(&first, Duration::from_secs(2));
        let others = async {
            for name in ["b", "c", "d", "e"] {
                tokio::time::sleep(Duration::from_millis(100)).await;
                answered(&breaker, name, &SendAnswer::NotConnected);
            }
        };
        let (verdict, ()) = tokio::join!(waiting, others);
        assert_eq!(verdict, Verdict::App);

        answered(&breaker, "anna", &says(0));
        tokio::time::advance(Duration::from_secs(1)).await;
        let lonely = answered(&breaker, "anna", &says(-1)).unwrap();
        let asked_at = Instant::now();
        assert_eq!(breaker.verdict_within(&lonely, Duration::from_secs(2)).await, Verdict::Undecided);
        assert_eq!(asked_at.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_hand_lifts_what_a_hand_has_set() {
        let breaker = breaker();
        answered(&breaker, "anna", &says(48001));
        let facts = Arc::new(Facts::said(None, "ann: holidays"));
        breaker.by_hand(Some(facts), &HashMap::new());
        answered(&breaker, "anna", &says(0));
        tokio::time::advance(PROBE_EVERY * 10).await;
        assert!(matches!(breaker.pass(), Pass::Open), "it is neither probed nor opened");
        breaker.by_hand(None, &HashMap::new());
        assert!(matches!(breaker.pass(), Pass::Closed), "meanwhile WeChat had answered well");
    }
}

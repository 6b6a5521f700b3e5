//! One app's breaker.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::notices::{Herald, Notice};
use super::pause::{Ends, Facts, Pause, State, first_probe, probe_every};
use super::templates::{TemplatePass, Templates};
use crate::clock;
use crate::deliver::outage_detector::{OutageDetector, Trouble, Verdict};
use crate::domain::answer::{Class, SendAnswer};
use crate::domain::ids::{AppId, Openid, TemplateId};
use crate::domain::message_kind::MessageKind;
use crate::domain::pause::PauseReason;

/// Whether one app may be sent to, and which of its templates.
pub(in crate::deliver) struct Breaker {
    pub(super) app_id: AppId,
    state: watch::Sender<State>,
    outage_detector: watch::Sender<OutageDetector>,
    templates: Templates,
    hasher: RandomState,
    herald: Herald,
}

/// A request that WeChat has answered, or not.
pub(in crate::deliver) struct Asked<'a> {
    pub(in crate::deliver) kind: MessageKind,
    pub(in crate::deliver) openid: &'a Openid,
    pub(in crate::deliver) template_id: &'a TemplateId,
    pub(in crate::deliver) begun: Instant,
}

/// What the breaker says to a delivery.
pub(in crate::deliver) enum Pass {
    Open,
    /// This delivery, and no other for now, may try whether the app works again.
    Probe(Probe),
    Paused,
}

/// The right to try a paused app once. Dropped without an answer, it lets another try later.
pub(in crate::deliver) struct Probe(Arc<Breaker>);

/// The same for a template.
pub(in crate::deliver) struct TemplateProbe(Arc<Breaker>, TemplateId);

impl Breaker {
    /// Open.
    pub(super) fn new(app_id: &AppId, herald: &Herald) -> Self {
        Self {
            app_id: app_id.clone(),
            state: watch::Sender::default(),
            outage_detector: watch::Sender::default(),
            templates: Templates::default(),
            hasher: RandomState::new(),
            herald: herald.clone(),
        }
    }

    /// Follows the breaker's state.
    pub(in crate::deliver) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// May incomings of this app be worked on, or do they wait in its lane?
    pub(in crate::deliver) fn is_shut(&self) -> bool {
        self.state.borrow().is_shut()
    }

    /// When the app will be tried next, as far as that is known, if it is paused.
    pub(in crate::deliver) fn paused_until(&self) -> Option<Timestamp> {
        self.state.borrow().ends().map(|ends| ends.due().unwrap_or_else(clock::now))
    }

    /// Until when a template of the app is paused, where it is and no delivery may try it.
    pub(in crate::deliver) fn template_paused_until(&self, template_id: &TemplateId) -> Option<Timestamp> {
        self.templates.paused_until(template_id)
    }

    /// Asks for one delivery.
    pub(in crate::deliver) fn pass(self: &Arc<Self>) -> Pass {
        let mut pass = Pass::Paused;
        self.state.send_if_modified(|state| match state {
            State { by_hand: None, own: None } => {
                pass = Pass::Open;
                false
            }
            State { by_hand: None, own: Some(Pause { ends, .. }) } if ends.is_due() => {
                *ends = Ends::Probing;
                pass = Pass::Probe(Probe(Arc::clone(self)));
                true
            }
            _ => false,
        });
        pass
    }

    /// Asks for one delivery of a template: may it go, and is it the one that tries? Else it may come at the time answered.
    pub(in crate::deliver) fn template_pass(
        self: &Arc<Self>,
        template_id: &TemplateId,
    ) -> Result<Option<TemplateProbe>, Timestamp> {
        match self.templates.pass(template_id) {
            TemplatePass::Open => Ok(None),
            TemplatePass::Probe => Ok(Some(TemplateProbe(Arc::clone(self), template_id.clone()))),
            TemplatePass::Until(due) => Err(due),
        }
    }

    /// Takes note of WeChat's answer to a send. Trouble comes back: whose it is may take a moment to show.
    pub(in crate::deliver) fn learn(&self, asked: &Asked<'_>, answer: &SendAnswer) -> Option<Trouble> {
        let class = asked.kind.classify(answer);
        if matches!(class, Class::Transient | Class::Unlisted | Class::Unknown) {
            return Some(self.learn_of_trouble(asked, answer));
        }
        self.outage_detector
            .send_if_modified(|outage_detector| outage_detector.good(asked.begun, Instant::now()));
        if let Some(change) = self.templates.learn(asked.template_id, class, answer) {
            self.herald.template(&self.app_id, asked.template_id, &change, PauseReason::Template);
        }
        match class.pause_reason() {
            Some(reason) => self.pause(reason, first_probe(class), answer),
            // A rejected token says nothing about the rest.
            None if class == Class::Token => {}
            // Answers to what was under way change nothing about our own count.
            None if self.is_kept_by_quota() => {}
            None => self.open(),
        }
        None
    }

    fn learn_of_trouble(&self, asked: &Asked<'_>, answer: &SendAnswer) -> Trouble {
        let user = self.hasher.hash_one(asked.openid);
        let trouble = Trouble { user, begun: asked.begun, ended: Instant::now() };
        let mut is_away = false;
        self.outage_detector.send_modify(|outage_detector| is_away = outage_detector.trouble(trouble));
        if is_away && !self.is_shut() {
            self.pause(PauseReason::Away, Ends::by_probe_in(probe_every(PauseReason::Away)), answer);
        }
        trouble
    }

    /// Whose this trouble is, by what is known now.
    pub(in crate::deliver) fn verdict(&self, trouble: &Trouble) -> Verdict {
        self.outage_detector.borrow().verdict(trouble)
    }

    /// The same, with the patience to wait for what others meet.
    pub(in crate::deliver) async fn verdict_within(&self, trouble: &Trouble, patience: Duration) -> Verdict {
        let mut outage_detector = self.outage_detector.subscribe();
        let decided =
            outage_detector.wait_for(|outage_detector| outage_detector.verdict(trouble) != Verdict::Open);
        let _ = tokio::time::timeout(patience, decided).await;
        self.verdict(trouble)
    }

    /// The refresher gets no token: nothing can be sent until it does.
    pub(in crate::deliver) fn token_gone(&self, reason: PauseReason, answer: &SendAnswer) {
        self.pause(reason, Ends::ByToken, answer);
    }

    /// The refresher has a token.
    pub(in crate::deliver) fn token_back(&self) {
        if self.state.borrow().own.as_ref().is_some_and(|own| own.ends == Ends::ByToken) {
            self.open();
        }
    }

    /// The app's own `daily_quota` is used up.
    pub(in crate::deliver) fn quota_used_up(&self, due: Timestamp) {
        let ours = SendAnswer::Read {
            errcode: 0,
            errmsg: "the app's daily_quota is used up".to_owned(),
            rid: None,
            msgid: None,
        };
        self.pause(PauseReason::Quota, Ends::ByQuota { due }, &ours);
    }

    /// There is something left of it again.
    pub(in crate::deliver) fn quota_back(&self) {
        if self.is_kept_by_quota() {
            self.open();
        }
    }

    fn is_kept_by_quota(&self) -> bool {
        self.state.borrow().own.as_ref().is_some_and(|own| matches!(own.ends, Ends::ByQuota { .. }))
    }

    /// Opens the breaker, whatever WeChat or the refresher had shut it for.
    pub(in crate::deliver) fn open(&self) {
        // Most answers find the breaker open: look before writing, which would wake every follower.
        if self.state.borrow().own.is_some() {
            self.change(|state| state.own = None);
        }
    }

    fn pause(&self, reason: PauseReason, ends: Ends, answer: &SendAnswer) {
        self.change(|state| {
            let same = state.own.take().filter(|own| own.reason == reason);
            let facts = same.map_or_else(|| Facts::of(answer), |own| own.facts);
            state.own = Some(Pause { reason, ends, facts });
        });
    }

    /// What operators say of this app.
    pub(super) fn by_hand(&self, app: Option<Arc<Facts>>, templates: &HashMap<TemplateId, Arc<Facts>>) {
        if self.state.borrow().by_hand != app {
            self.change(|state| state.by_hand = app);
        }
        for (template_id, change) in self.templates.by_hand(templates) {
            self.herald.template(&self.app_id, &template_id, &change, PauseReason::ByHand);
        }
    }

    /// An operator wants the app, or one of its templates, tried at once.
    pub(in crate::deliver) fn probe_now(&self, template_id: Option<&TemplateId>) {
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

    /// Changes the state, and tells of it where another reason is to be shown.
    fn change(&self, how: impl FnOnce(&mut State)) {
        let (mut before, mut after) = (None, State::default());
        self.state.send_modify(|state| {
            before = state.shown().map(|(reason, _)| reason);
            how(state);
            after = state.clone();
        });
        match (before, after.shown()) {
            (before, Some((reason, facts))) if before != Some(reason) => {
                self.herald.app_paused(&self.app_id, reason, facts);
            }
            (Some(before), None) => self.herald.app_resumed(&self.app_id, before),
            _ => {}
        }
    }

    pub(super) fn notices(&self) -> Vec<Notice> {
        let (paused, mut notices) = self.templates.notices();
        self.herald.metrics.templates_paused(&self.app_id, paused);
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
        self.0.templates.probe_told_nothing(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Breakers;
    use super::super::pause::PROBE_EVERY;
    use super::*;
    use crate::metrics::Metrics;

    fn breaker() -> Arc<Breaker> {
        Breakers::new(Arc::new(Metrics::new())).of(&"wx1".parse().unwrap())
    }

    /// Lets one user's request have this answer.
    fn answered(breaker: &Breaker, name: &str, answer: &SendAnswer) -> Option<Trouble> {
        let (openid, template_id) = (name.parse().unwrap(), "T1".parse().unwrap());
        let kind = MessageKind::Subscribe;
        breaker
            .learn(&Asked { kind, openid: &openid, template_id: &template_id, begun: Instant::now() }, answer)
    }

    fn says(errcode: i64) -> SendAnswer {
        SendAnswer::Read { errcode, errmsg: String::new(), rid: None, msgid: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_app_is_tried_by_one_probe_at_a_time() {
        let breaker = breaker();
        answered(&breaker, "anna", &says(48001));
        assert!(matches!(breaker.pass(), Pass::Paused));
        tokio::time::advance(PROBE_EVERY).await;
        let Pass::Probe(probe) = breaker.pass() else { panic!("no probe") };
        assert!(matches!(breaker.pass(), Pass::Paused), "two probes at once");
        drop(probe);
        assert!(matches!(breaker.pass(), Pass::Paused), "a probe without an answer tells nothing");
        tokio::time::advance(PROBE_EVERY).await;
        let Pass::Probe(_probe) = breaker.pass() else { panic!("no second probe") };
        answered(&breaker, "anna", &says(0));
        assert!(matches!(breaker.pass(), Pass::Open));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_for_want_of_a_token_ends_with_a_token_only() {
        let breaker = breaker();
        breaker.token_gone(PauseReason::SecretWrong, &says(40125));
        tokio::time::advance(PROBE_EVERY * 10).await;
        assert!(matches!(breaker.pass(), Pass::Paused));
        breaker.token_back();
        assert!(matches!(breaker.pass(), Pass::Open));
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
        assert_eq!(verdict, Verdict::Apps);

        answered(&breaker, "anna", &says(0));
        tokio::time::advance(Duration::from_secs(1)).await;
        let lonely = answered(&breaker, "anna", &says(-1)).unwrap();
        let asked_at = Instant::now();
        assert_eq!(breaker.verdict_within(&lonely, Duration::from_secs(2)).await, Verdict::Open);
        assert_eq!(asked_at.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_hand_lifts_what_a_hand_has_set() {
        let breaker = breaker();
        answered(&breaker, "anna", &says(48001));
        let facts = Facts::of(&says(0));
        breaker.by_hand(Some(facts), &HashMap::new());
        answered(&breaker, "anna", &says(0));
        tokio::time::advance(PROBE_EVERY * 10).await;
        assert!(matches!(breaker.pass(), Pass::Paused), "it is neither probed nor opened");
        breaker.by_hand(None, &HashMap::new());
        assert!(matches!(breaker.pass(), Pass::Open), "meanwhile WeChat had answered well");
    }
}

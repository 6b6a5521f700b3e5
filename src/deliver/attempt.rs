//! The request, and what its answer means.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::Pipeline;
use super::breakers::{Asked, Breaker};
use super::claim::Claim;
use super::outage_detector::{Trouble, Verdict};
use super::ready::Go;
use crate::db::registry::live_apps::App;
use crate::delays::{self, Delays};
use crate::domain::answer::{Class, SendAnswer};
use crate::domain::decide::{self, Situation};
use crate::domain::delivery::Delivery;
use crate::domain::message_kind::Message;
use crate::domain::outcome::{AnswerFacts, DeadReason, Outcome};
use crate::failpoint::{crash_point, panic_point};
use crate::wechat::AccessToken;

/// WeChat wants no two requests for one openid at once; another process may have one under way.
const CONFLICT_PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));
/// Ten times a fifth of a second outlasts any single request; then the ladder is the better place to wait.
const MAX_CONFLICTS: u32 = 10;
/// A token may be rejected, renewed, and killed again by a third party; more than that is the app's trouble.
const MAX_TOKENS: u32 = 4;

/// What an attempt came to.
#[derive(Debug)]
pub(super) struct Attempted {
    pub(super) outcome: Outcome,
    pub(super) facts: AnswerFacts,
    /// Requests that count against the delivery.
    pub(super) charged: i32,
    /// Nobody knows whether the message went out.
    pub(super) unknown: bool,
    pub(super) token_generation: Option<i64>,
    /// What the last answer meant.
    pub(super) class: Option<Class>,
}

impl Attempted {
    /// An end that no request led to.
    pub(super) fn without_request(outcome: Outcome) -> Self {
        Self {
            outcome,
            facts: AnswerFacts::default(),
            charged: 0,
            unknown: false,
            token_generation: None,
            class: None,
        }
    }
}

/// How long a trouble waits for its verdict before the delivery is charged for it. Under load five users meet an outage in
/// less, and one good answer clears the app in less; a delivery that is alone in its trouble goes to the ladder this much
/// later. It holds its claim meanwhile, and nothing that others wait for.
const VERDICT_WITHIN: Duration = Duration::from_secs(2);
/// So much of the lease is left for settling, whatever the verdict waits for.
const ROOM_TO_SETTLE: Duration = Duration::from_secs(1);

/// Tries so far within one claim.
struct Tries {
    /// Answers that count against the delivery whoever else is in trouble.
    answered: i32,
    /// Requests that came to nothing; whose they are shows later.
    troubles: Vec<Trouble>,
    conflicts: u32,
    tokens: u32,
    quick: Delays,
}

/// Whom the attempt's troubles count against.
struct Blame {
    charged: i32,
    /// The last answer was trouble, and it is the app's.
    is_the_apps: bool,
}

impl Pipeline {
    /// Sends, and sends again where that can be done at once. A panic in here ends this delivery alone.
    pub(super) async fn attempt(&self, delivery: &Delivery, claim: &Claim, go: Go) -> Attempted {
        match AssertUnwindSafe(self.send_until_decided(delivery, claim, go)).catch_unwind().await {
            Ok(attempted) => attempted,
            // The request may have been out; the panic hook has logged why we cannot say.
            Err(_panic) => Attempted {
                unknown: true,
                charged: 1,
                ..Attempted::without_request(Outcome::Dead(DeadReason::Panicked))
            },
        }
    }

    async fn send_until_decided(&self, delivery: &Delivery, claim: &Claim, mut go: Go) -> Attempted {
        panic_point("attempt");
        let breaker = self.breakers.of(&delivery.event.app_id);
        let mut tries = Tries::none();
        loop {
            let Some(token) = go.app.token() else { return uncharged(&tries, &breaker) };
            if !claim.allows(self.settings.request_timeout) || self.stops.soft.is_cancelled() {
                return uncharged(&tries, &breaker);
            }
            let app = go.app.app();
            if !self.count_request(&app, &mut go.share) {
                return uncharged(&tries, &breaker);
            }
            let begun = Instant::now();
            let answer = self.request(delivery, &token, &app).await;
            if answer == SendAnswer::NotConnected {
                go.share.not_connected();
            }
            let class = delivery.event.kind.classify(&answer);
            let trouble = learn(&breaker, delivery, begun, &answer);
            tries.note(class, trouble);
            let again = answer.retry_after().is_none()
                && self.try_again(class, &token, claim, &mut tries, &mut go).await
                // What was waited for may have taken the room for another request.
                && claim.allows(self.settings.request_timeout);
            if !again {
                // What others wait for is given back with the answer, before the verdict.
                drop(go);
                let blame = blame(&breaker, claim, &tries, trouble).await;
                return self.decide(delivery, claim, &answer, &blame, &token);
            }
        }
    }

    async fn request(&self, delivery: &Delivery, token: &AccessToken, app: &App) -> SendAnswer {
        let Some(openid) = delivery.recipient.openid() else { return SendAnswer::NotConnected };
        let event = &delivery.event;
        let message = Message {
            openid,
            template_id: &event.template_id,
            page: event.page.as_deref(),
            data: &event.data,
            miniprogram_state: event.miniprogram_state.as_deref().unwrap_or(&app.miniprogram_state),
            lang: event.lang.as_deref().unwrap_or(&app.lang),
        };
        let started = Instant::now();
        let in_flight = self.metrics.in_flight();
        let answer = self.wechat.send(token, event.kind, &message).await;
        drop(in_flight);
        crash_point("requested");
        let class = event.kind.classify(&answer);
        self.metrics.attempt(&event.app_id, class.as_str(), answer.errcode(), started.elapsed());
        if class == Class::Unlisted {
            self.unlisted.note(&event.app_id, &answer);
        }
        answer
    }

    /// Prepares another request within this claim, where the class allows one and the lease has room for it. (Where WeChat
    /// names a time to wait, the ladder is the place.)
    async fn try_again(
        &self,
        class: Class,
        token: &Arc<AccessToken>,
        claim: &Claim,
        tries: &mut Tries,
        go: &mut Go,
    ) -> bool {
        let pause = match class {
            Class::Token if tries.tokens < MAX_TOKENS => {
                tries.tokens += 1;
                return self.newer_token(token, claim, go).await;
            }
            Class::Conflict if tries.conflicts < MAX_CONFLICTS => {
                tries.conflicts += 1;
                delays::between(CONFLICT_PAUSE.0, CONFLICT_PAUSE.1)
            }
            Class::Transient if go.probe.is_none() => match tries.quick.next() {
                Some(pause) => pause,
                None => return false,
            },
            _ => return false,
        };
        if !claim.allows(pause + self.settings.request_timeout) {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }

    /// Reports the token that failed and waits, as long as the lease allows, for a newer one.
    async fn newer_token(&self, failed: &Arc<AccessToken>, claim: &Claim, go: &mut Go) -> bool {
        let app_id = go.app.app().app_id.clone();
        self.tokens.report_rejected(&app_id, failed.generation()).await;
        let Some(room) = claim.time_for(self.settings.request_timeout) else { return false };
        let newer = tokio::time::timeout(room, go.app.token_after(failed.generation()));
        newer.await.unwrap_or(false)
    }

    fn decide(
        &self,
        delivery: &Delivery,
        claim: &Claim,
        answer: &SendAnswer,
        blame: &Blame,
        token: &Arc<AccessToken>,
    ) -> Attempted {
        let class = delivery.event.kind.classify(answer);
        let situation = Situation {
            ladder: &self.settings.ladder,
            step: delivery.progress.step,
            on_unknown: delivery.event.on_unknown(self.settings.on_unknown),
            attempts: claim.row.attempts + blame.charged,
            timeouts: claim.row.timeouts,
            unknown_before: claim.row.unknowns > 0,
            msgid: answer.msgid(),
            retry_after: answer.retry_after(),
            is_the_apps: blame.is_the_apps,
        };
        let outcome = decide::outcome(class, &situation);
        Attempted {
            facts: answer.facts(),
            charged: if outcome == Outcome::Uncharged { 0 } else { blame.charged },
            outcome,
            unknown: class == Class::Unknown,
            token_generation: Some(token.generation()),
            class: Some(class),
        }
    }
}

impl Tries {
    fn none() -> Self {
        Self { answered: 0, troubles: Vec::new(), conflicts: 0, tokens: 0, quick: Delays::quick_retry() }
    }

    fn note(&mut self, class: Class, trouble: Option<Trouble>) {
        self.answered += i32::from(trouble.is_none() && is_charged(class));
        self.troubles.extend(trouble);
    }

    /// Troubles whose verdict now is one of these, as a number of requests.
    fn troubles_that(&self, breaker: &Breaker, count: impl Fn(Verdict) -> bool) -> i32 {
        let counted = self.troubles.iter().filter(|trouble| count(breaker.verdict(trouble))).count();
        i32::try_from(counted).unwrap_or(i32::MAX)
    }
}

/// Tells the app's breaker, which hears every answer at once: pauses must not wait for this delivery's retries.
fn learn(breaker: &Breaker, delivery: &Delivery, begun: Instant, answer: &SendAnswer) -> Option<Trouble> {
    let (openid, template_id) = (delivery.recipient.openid()?, &delivery.event.template_id);
    breaker.learn(&Asked { kind: delivery.event.kind, openid, template_id, begun }, answer)
}

/// Whom to charge. Where the last answer was trouble, waits a little for what others meet; what nobody has cleared by then
/// is the delivery's own.
async fn blame(breaker: &Breaker, claim: &Claim, tries: &Tries, last: Option<Trouble>) -> Blame {
    let patience = claim.time_for(ROOM_TO_SETTLE).unwrap_or_default().min(VERDICT_WITHIN);
    let is_the_apps = match last {
        Some(trouble) => breaker.verdict_within(&trouble, patience).await == Verdict::Apps,
        None => false,
    };
    let troubles = tries.troubles_that(breaker, |verdict| verdict != Verdict::Apps);
    Blame { charged: tries.answered + troubles, is_the_apps }
}

/// The app's troubles, and two processes meeting at one user, are not the delivery's doing.
fn is_charged(class: Class) -> bool {
    !matches!(class, Class::Token | Class::AppFault(_) | Class::Quota | Class::Throttled | Class::Conflict)
}

/// Deferred without a verdict on this delivery: requests made so far still count, where they are known to be its own.
fn uncharged(tries: &Tries, breaker: &Breaker) -> Attempted {
    let troubles = tries.troubles_that(breaker, |verdict| verdict == Verdict::Deliverys);
    Attempted { charged: tries.answered + troubles, ..Attempted::without_request(Outcome::Uncharged) }
}

//! The request, and what its answer means.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::Pipeline;
use super::claim::Claim;
use super::ready::Go;
use crate::db::apps::App;
use crate::delays::{self, Delays};
use crate::domain::answer::{Class, SendAnswer, classify_send};
use crate::domain::decide::{self, Situation};
use crate::domain::delivery::Delivery;
use crate::domain::outcome::{AnswerFacts, DeadReason, Outcome};
use crate::failpoint::{crash_point, panic_point};
use crate::wechat::{AccessToken, Message};

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

/// Tries so far within one claim.
struct Tries {
    charged: i32,
    conflicts: u32,
    tokens: u32,
    quick: Delays,
    /// Trouble with the last answer is to be blamed on the app.
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
        let mut tries =
            Tries { charged: 0, conflicts: 0, tokens: 0, quick: Delays::quick_retry(), is_the_apps: false };
        loop {
            let Some(token) = go.app.token() else { return uncharged(&tries) };
            if !claim.allows(self.settings.request_timeout) || self.stops.soft.is_cancelled() {
                return uncharged(&tries);
            }
            let app = go.app.app();
            if !self.count_request(&app, &mut go.share) {
                return uncharged(&tries);
            }
            let answer = self.request(delivery, &token, &app).await;
            if answer == SendAnswer::NotConnected {
                go.share.not_connected();
            }
            let class = classify_send(&answer);
            tries.charged += i32::from(is_charged(class));
            tries.is_the_apps = self.learn(delivery, &answer);
            let again = answer.retry_after().is_none()
                && self.try_again(class, &token, claim, &mut tries, &mut go).await
                // What was waited for may have taken the room for another request.
                && claim.allows(self.settings.request_timeout);
            if !again {
                return self.decide(delivery, claim, &answer, &tries, &token, go);
            }
        }
    }

    /// Tells the app's gate, which hears every answer at once: pauses must not wait for this delivery's retries.
    fn learn(&self, delivery: &Delivery, answer: &SendAnswer) -> bool {
        let gate = self.gates.of(&delivery.event.app_id);
        delivery.recipient.openid().is_some_and(|openid| gate.learn(openid, answer))
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
        let answer = self.wechat.send(token, &message).await;
        drop(in_flight);
        crash_point("requested");
        let class = classify_send(&answer);
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
        tries: &Tries,
        token: &Arc<AccessToken>,
        go: Go,
    ) -> Attempted {
        let class = classify_send(answer);
        drop(go);
        let situation = Situation {
            ladder: &self.settings.ladder,
            step: delivery.progress.step,
            on_unknown: delivery.event.on_unknown.unwrap_or(self.settings.on_unknown),
            attempts: claim.row.attempts + tries.charged,
            timeouts: claim.row.timeouts,
            unknown_before: claim.row.unknown_before,
            counted: claim.row.consent.is_some_and(|consent| consent.remaining.is_some()),
            msgid: answer.msgid(),
            retry_after: answer.retry_after(),
            is_the_apps: tries.is_the_apps,
        };
        let outcome = decide::outcome(class, &situation);
        Attempted {
            facts: answer.facts(),
            charged: if outcome == Outcome::Uncharged { 0 } else { tries.charged },
            outcome,
            unknown: class == Class::Unknown,
            token_generation: Some(token.generation()),
            class: Some(class),
        }
    }
}

/// The app's troubles, and two processes meeting at one user, are not the delivery's doing.
fn is_charged(class: Class) -> bool {
    !matches!(class, Class::Token | Class::AppFault(_) | Class::Quota | Class::Throttled | Class::Conflict)
}

/// Handed on without a verdict on this delivery: requests made so far still count.
fn uncharged(tries: &Tries) -> Attempted {
    Attempted { charged: tries.charged, ..Attempted::without_request(Outcome::Uncharged) }
}

//! The request, and what its answer means.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::claim::Claim;
use super::job::Job;
use super::ready::Go;
use super::unlisted::Unlisted;
use crate::db::registry::apps::App;
use crate::delays::{self, Delays};
use crate::domain::answer::{Class, SendAnswer};
use crate::domain::decide::{self, Situation};
use crate::domain::event::Event;
use crate::domain::ids::Openid;
use crate::domain::ladder::Ladder;
use crate::domain::message_kind::Message;
use crate::domain::outcome::{AnswerFacts, DeadReason, Outcome};
use crate::domain::protocol::OnUnknown;
use crate::failpoint::{crash_point, panic_point};
use crate::health::{Answered, Breaker, Failure, Verdict};
use crate::metrics::Metrics;
use crate::token::TokenCache;
use crate::wechat::{AccessToken, Client};

/// WeChat wants no two requests for one openid at once; another process may have one under way.
const CONFLICT_PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));
/// Ten times a fifth of a second outlasts any single request; then the ladder is the better place to wait.
const MAX_CONFLICTS: u32 = 10;
/// A token may be rejected, renewed, and killed again by a third party; more than that is a failure of the app.
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

    /// Our own code panicked in the middle. The request may have been out; the panic hook has logged why we cannot say.
    pub(super) fn panicked() -> Self {
        Self { unknown: true, charged: 1, ..Self::without_request(Outcome::Dead(DeadReason::Panicked)) }
    }
}

/// How long a failure waits for its verdict before the delivery is charged for it. Under load five users meet an outage in
/// less, and one good answer clears the app in less; a delivery that alone has failed goes to the ladder this much
/// later. It holds its claim meanwhile, and nothing that others wait for.
const VERDICT_WITHIN: Duration = Duration::from_secs(2);
/// So much of the lease is left for settling, whatever the verdict waits for.
const ROOM_TO_SETTLE: Duration = Duration::from_secs(1);

/// Tries so far within one claim.
struct Tries {
    /// Answers that count against the delivery whatever fails beside it.
    answered: i32,
    /// Requests that came to nothing; whose they are shows later.
    failures: Vec<Failure>,
    conflicts: u32,
    tokens: u32,
    quick: Delays,
}

/// Whom the attempt's failures count against.
struct Blame {
    charged: i32,
    /// The last answer was a failure, and it is the app's.
    is_the_apps: bool,
}

/// Sends claimed deliveries to WeChat.
pub(super) struct Attempter {
    pub(super) wechat: Client,
    pub(super) tokens: TokenCache,
    pub(super) unlisted: Unlisted,
    pub(super) metrics: Arc<Metrics>,
    pub(super) on_unknown: OnUnknown,
    pub(super) request_timeout: Duration,
    pub(super) soft_stop: CancellationToken,
}

impl Attempter {
    /// Sends, and sends again where that can be done at once.
    pub(super) async fn attempt(&self, job: &Job, claim: &Claim, mut go: Go<'_>) -> Attempted {
        panic_point("attempt");
        let (event, breaker, ladder) = (&job.delivery.event, &go.app.breaker, go.app.ladder());
        let mut tries = Tries::none();
        loop {
            let Some(token) = go.app.token() else { return uncharged(&tries, breaker) };
            let app = go.app.settings();
            if !claim.allows(self.request_timeout)
                || self.soft_stop.is_cancelled()
                || !go.app.limits.count_request(&app, &mut go.share)
            {
                return uncharged(&tries, breaker);
            }
            let begun = Instant::now();
            let in_flight = self.metrics.in_flight();
            let answer = self.wechat.send(&token, event.kind, &message(event, &app, go.openid)).await;
            drop(in_flight);
            crash_point("requested");
            let class = event.kind.classify(&answer);
            self.count(event, &answer, class, begun.elapsed());
            if answer == SendAnswer::NotConnected {
                go.share.not_connected();
            }
            let (openid, template_id) = (go.openid, &event.template_id);
            let answered = Answered { openid, template_id, begun, answer: &answer, class };
            // The breaker hears every answer at once: pauses must not wait for this delivery's retries.
            let failure = breaker.learn(&answered);
            tries.note(class, failure);
            let again = answer.retry_after().is_none()
                && self.try_again(class, &token, claim, &mut tries, &go).await
                // What was waited for may have taken the room for another request.
                && claim.allows(self.request_timeout);
            if !again {
                // What others wait for is given back with the answer, before the verdict.
                drop(go);
                let blame = blame(breaker, claim, &tries, failure).await;
                return self.decide((job, ladder), claim, (&answer, class), &blame, &token);
            }
        }
    }

    fn count(&self, event: &Event, answer: &SendAnswer, class: Class, took: Duration) {
        self.metrics.attempt(&event.app_id, class.as_str(), answer.errcode(), took);
        if class == Class::Unlisted {
            self.unlisted.note(&event.app_id, answer);
        }
    }

    /// Prepares another request within this claim, where the class allows one and the lease has room for it. (Where WeChat
    /// names a time to wait, the ladder is the place.)
    async fn try_again(
        &self,
        class: Class,
        token: &AccessToken,
        claim: &Claim,
        tries: &mut Tries,
        go: &Go<'_>,
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
        if !claim.allows(pause + self.request_timeout) {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }

    /// Reports the token that failed and waits, as long as the lease allows, for a newer one.
    async fn newer_token(&self, failed: &AccessToken, claim: &Claim, go: &Go<'_>) -> bool {
        self.tokens.report_rejected(&go.app.app_id, failed.generation()).await;
        let Some(room) = claim.time_for(self.request_timeout) else { return false };
        let newer = tokio::time::timeout(room, go.app.token_after(failed.generation()));
        newer.await.unwrap_or(false)
    }

    fn decide(
        &self,
        (job, ladder): (&Job, &Ladder),
        claim: &Claim,
        (answer, class): (&SendAnswer, Class),
        blame: &Blame,
        token: &AccessToken,
    ) -> Attempted {
        let delivery = &job.delivery;
        let situation = Situation {
            ladder,
            step: delivery.progress.step,
            on_unknown: delivery.event.on_unknown(self.on_unknown),
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
        Self { answered: 0, failures: Vec::new(), conflicts: 0, tokens: 0, quick: Delays::quick_retry() }
    }

    fn note(&mut self, class: Class, failure: Option<Failure>) {
        self.answered += i32::from(failure.is_none() && is_charged(class));
        self.failures.extend(failure);
    }

    /// Failures whose verdict now is one of these, as a number of requests.
    fn failures_that(&self, breaker: &Breaker, count: impl Fn(Verdict) -> bool) -> i32 {
        let counted = self.failures.iter().filter(|failure| count(breaker.verdict(failure))).count();
        i32::try_from(counted).unwrap_or(i32::MAX)
    }
}

fn message<'a>(event: &'a Event, app: &'a App, openid: &'a Openid) -> Message<'a> {
    Message {
        openid,
        template_id: &event.template_id,
        page: event.page.as_deref(),
        data: &event.data,
        miniprogram_state: event.miniprogram_state.as_deref().unwrap_or(&app.miniprogram_state),
        lang: event.lang.as_deref().unwrap_or(&app.lang),
    }
}

/// Whom to charge. Where the last answer was a failure, waits a little for what others meet; what nobody has cleared by then
/// is the delivery's own.
async fn blame(breaker: &Breaker, claim: &Claim, tries: &Tries, last: Option<Failure>) -> Blame {
    let patience = claim.time_for(ROOM_TO_SETTLE).unwrap_or_default().min(VERDICT_WITHIN);
    let is_the_apps = match last {
        Some(failure) => breaker.verdict_within(&failure, patience).await == Verdict::App,
        None => false,
    };
    let failures = tries.failures_that(breaker, |verdict| verdict != Verdict::App);
    Blame { charged: tries.answered + failures, is_the_apps }
}

/// The app's failures, and two processes meeting at one user, are not the delivery's doing.
fn is_charged(class: Class) -> bool {
    !matches!(class, Class::Token | Class::AppFault(_) | Class::Quota | Class::Throttled | Class::Conflict)
}

/// Deferred without a verdict on this delivery: requests made so far still count, where they are known to be its own.
fn uncharged(tries: &Tries, breaker: &Breaker) -> Attempted {
    let failures = tries.failures_that(breaker, |verdict| verdict == Verdict::Delivery);
    Attempted { charged: tries.answered + failures, ..Attempted::without_request(Outcome::Uncharged) }
}

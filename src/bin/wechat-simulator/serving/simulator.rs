//! What happens to every request: arrive, wait, be processed, be answered — or be struck by a fault.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::response::Response;

use super::answer;
use super::call::{Call, Verdict};
use super::wire::Peer;
use crate::clock;
use crate::errcode::{Refusal, SYSTEM_BUSY};
use crate::faults::{Action, Answer};
use crate::traffic::Endpoint;
use crate::world::{Scenario, World};

/// The simulated platform as its endpoints share it.
pub struct Simulator {
    era: Mutex<Era>,
    held: AtomicUsize,
    /// What `/_sim/reset` returns to.
    initial: Scenario,
}

/// A world and how many were before it, so that a request that outlives a reset changes nothing in the new one.
struct Era {
    number: u64,
    world: World,
}

/// Where a request is noted.
#[derive(Clone, Copy)]
struct Ticket {
    era: u64,
    number: u64,
    endpoint: Endpoint,
}

/// A request on its way.
struct Arrival {
    ticket: Ticket,
    delay: Duration,
    action: Option<Action>,
    stage: Stage,
}

enum Stage {
    /// Decided on arrival.
    Decided(Verdict),
    /// Begun, to be processed when the delay is over.
    Begun,
    /// Struck by a fault before it reached the platform.
    Lost,
}

impl Simulator {
    /// A platform that starts, and restarts, from this scenario.
    pub fn new(initial: Scenario) -> Self {
        let era = Era { number: 0, world: World::new(&initial) };
        Self { era: Mutex::new(era), held: AtomicUsize::new(0), initial }
    }

    /// Takes one request to WeChat's side from arrival to answer.
    pub async fn serve<C: Call>(self: Arc<Self>, peer: Peer, mut call: C) -> Response {
        let held = Held::one_more(&self);
        let Arrival { ticket, delay, action, stage } = self.arrive(&mut call, held.count);
        let verdict = match stage {
            Stage::Decided(verdict) => verdict,
            Stage::Begun => self.clone().process_after(delay, ticket.era, call).await,
            // The verdict of a request nobody worked on, for a fault that shows one all the same.
            Stage::Lost => {
                tokio::time::sleep(delay).await;
                Err(Refusal::of(SYSTEM_BUSY))
            }
        };
        match action {
            None => self.answer(ticket, verdict),
            Some(action) => self.answer_struck(ticket, verdict, action.answer, &peer).await,
        }
    }

    /// Looks at the world for a moment, or changes it.
    pub fn with_world<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.lock().world)
    }

    /// Starts again, from the scenario given or the first one.
    pub fn reset(&self, scenario: Option<&Scenario>) {
        let mut era = self.lock();
        era.number += 1;
        era.world = World::new(scenario.unwrap_or(&self.initial));
    }

    /// How many requests are held right now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Notes the request, finds the fault that strikes it, and decides at once what needs no waiting.
    fn arrive<C: Call>(&self, call: &mut C, held: usize) -> Arrival {
        let (now_us, endpoint) = (clock::now_us(), call.endpoint());
        let mut era = self.lock();
        let Era { number: era, world } = &mut *era;
        let subject = call.subject(&world.tokens);
        let number = world.journal.receive(now_us, endpoint, &subject, call.page(), held);
        let action = world.faults.strike(&subject);
        if let Some(action) = &action {
            world.journal.strike(number, action.answer.name());
        }
        let delay_ms = world.latency_ms(subject.appid) + action.as_ref().map_or(0, |action| action.delay_ms);
        let delivers = action.as_ref().is_none_or(|action| action.deliver);
        let stage = if delivers { begin(world, call, delay_ms, now_us / 1_000) } else { Stage::Lost };
        let ticket = Ticket { era: *era, number, endpoint };
        Arrival { ticket, delay: Duration::from_millis(delay_ms), action, stage }
    }

    /// Processes a request when its time is over, in a task of its own: the platform does not stop working on
    /// a request because the client has left.
    async fn process_after<C: Call>(self: Arc<Self>, delay: Duration, era: u64, call: C) -> Verdict {
        let work = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let mut current = self.lock();
            if current.number != era {
                return Err(Refusal::of(SYSTEM_BUSY));
            }
            call.process(&mut current.world, clock::now_ms())
        });
        work.await.unwrap_or_else(|_| Err(Refusal::of(SYSTEM_BUSY)))
    }

    fn answer(&self, ticket: Ticket, verdict: Verdict) -> Response {
        answer::json(ticket.endpoint, self.word(ticket, verdict))
    }

    /// Answers as a fault wants it; the verdict shows only where the fault leaves the body alone.
    async fn answer_struck(&self, ticket: Ticket, verdict: Verdict, how: Answer, peer: &Peer) -> Response {
        match how {
            Answer::Honest => self.answer(ticket, verdict),
            Answer::Errcode { errcode, errmsg } => {
                self.answer(ticket, Err(answer::fault_refusal(errcode, errmsg, peer)))
            }
            Answer::SlowBody { ms } => {
                let body = self.word(ticket, verdict);
                answer::slowly(ticket.endpoint, body, Duration::from_millis(ms))
            }
            Answer::Http { status, body, headers } => answer::http(status, body, &headers),
            Answer::Garbage => answer::garbage(ticket.endpoint),
            Answer::Reset => answer::reset(peer),
            Answer::Hang => std::future::pending().await,
        }
    }

    /// Notes the verdict and puts it into words.
    fn word(&self, ticket: Ticket, verdict: Verdict) -> String {
        let errcode = verdict.as_ref().map_or_else(|refusal| refusal.errcode, |_| 0);
        let mut current = self.lock();
        if current.number == ticket.era {
            current.world.journal.answer(ticket.number, ticket.endpoint, errcode);
        }
        verdict.unwrap_or_else(|refusal| refusal.body(clock::now_ms(), &mut current.world.rng))
    }

    fn lock(&self) -> MutexGuard<'_, Era> {
        self.era.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins a call, and finishes it at once where nothing has to be waited for.
fn begin<C: Call>(world: &mut World, call: &mut C, delay_ms: u64, now_ms: u64) -> Stage {
    match call.begin(world, now_ms) {
        Err(refusal) => Stage::Decided(Err(refusal)),
        Ok(()) if delay_ms == 0 => Stage::Decided(call.process(world, now_ms)),
        Ok(()) => Stage::Begun,
    }
}

/// Counts a request for as long as it is held, also when the client leaves.
struct Held<'a> {
    simulator: &'a Simulator,
    count: usize,
}

impl<'a> Held<'a> {
    fn one_more(simulator: &'a Simulator) -> Self {
        let count = simulator.held.fetch_add(1, Ordering::Relaxed) + 1;
        Self { simulator, count }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.simulator.held.fetch_sub(1, Ordering::Relaxed);
    }
}

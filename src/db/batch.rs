//! Batch while busy: requests that arrive while a statement is running form the next one.
//!
//! No timer: an idle database answers a single request at once, a busy one gets large batches. So a plan, a claim and a
//! settlement each cost one statement per batch instead of one per event.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Error;
use crate::lifecycle::{Beat, Task, Tasks};

/// Requests waiting for the next statement. Each task waits for at most one, so the pipeline's bound on tasks is the real
/// limit; a smaller number here would make a burst block.
const QUEUE_LENGTH: usize = 4096;

/// How often an idle batcher reports that it is alive.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// The statement of a batcher: takes the whole batch, answers in the same order.
pub type Statement<I, O> =
    dyn for<'a> Fn(&'a [I]) -> Pin<Box<dyn Future<Output = Result<Vec<O>, Error>> + Send + 'a>> + Send + Sync;

/// A handle to the one task that runs a statement.
pub struct Batcher<I, O> {
    requests: mpsc::Sender<Request<I, O>>,
}

impl<I, O> Clone for Batcher<I, O> {
    fn clone(&self) -> Self {
        Self { requests: self.requests.clone() }
    }
}

struct Request<I, O> {
    item: I,
    answer: oneshot::Sender<Result<O, Error>>,
}

impl<I: Send + Sync + 'static, O: Send + 'static> Batcher<I, O> {
    /// Starts the task. It ends when the last handle is gone. `max` bounds one statement; `observe` gets each batch's size.
    pub fn start(
        (tasks, task): (&Tasks, Task),
        max: usize,
        statement: Arc<Statement<I, O>>,
        observe: impl Fn(usize) + Send + Sync + 'static,
    ) -> Self {
        let (requests, waiting) = mpsc::channel(QUEUE_LENGTH);
        let beat = tasks.beat(task);
        tokio::spawn(tasks.guard(task, run(waiting, max, statement, observe, beat)));
        Self { requests }
    }

    /// Submits a request and waits for its own answer.
    pub async fn submit(&self, item: I) -> Result<O, Error> {
        let (answer, answered) = oneshot::channel();
        let gone = || Error::Again("the batch task has stopped");
        self.requests.send(Request { item, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn run<I: Send + Sync, O: Send>(
    mut waiting: mpsc::Receiver<Request<I, O>>,
    max: usize,
    statement: Arc<Statement<I, O>>,
    observe: impl Fn(usize),
    beat: Beat,
) {
    let mut taken = Vec::with_capacity(max);
    loop {
        beat.beat();
        match tokio::time::timeout(BEAT_EVERY, waiting.recv_many(&mut taken, max)).await {
            Ok(0) => break,
            Ok(_some) => {}
            Err(_nothing_came) => continue,
        }
        observe(taken.len());
        let (items, askers): (Vec<I>, Vec<_>) =
            taken.drain(..).map(|request| (request.item, request.answer)).unzip();
        for (asker, answer) in askers.into_iter().zip(answers(&statement, &items, &beat).await) {
            // The requester may be gone (a hard stop).
            let _ = asker.send(answer);
        }
    }
}

/// One statement for all; if the database refuses it, one for each, so that one bad row harms only itself.
async fn answers<I: Sync, O>(
    statement: &Arc<Statement<I, O>>,
    items: &[I],
    beat: &Beat,
) -> Vec<Result<O, Error>> {
    match statement(items).await {
        Ok(answers) if answers.len() == items.len() => answers.into_iter().map(Ok).collect(),
        Ok(_) => vec_of(items.len(), &lost_answer()),
        Err(error) if items.len() == 1 || matches!(error, Error::Away(_)) => vec_of(items.len(), &error),
        Err(_) => singles(statement, items, beat).await,
    }
}

/// One by one. A fault of the installation fails every request: after the first few have all failed, the rest are not tried.
async fn singles<I: Sync, O>(
    statement: &Arc<Statement<I, O>>,
    items: &[I],
    beat: &Beat,
) -> Vec<Result<O, Error>> {
    let begun = Instant::now();
    let mut answers = Vec::with_capacity(items.len());
    let (mut met_in_a_row, mut any_good) = (0, false);
    for item in items {
        beat.beat();
        let answer = statement(std::slice::from_ref(item)).await.and_then(only);
        met_in_a_row = if answer.as_ref().is_err_and(Error::is_away) { met_in_a_row + 1 } else { 0 };
        any_good |= answer.is_ok();
        let rest = match &answer {
            Err(error) if met_in_a_row >= ENOUGH_ALIKE && !any_good => Some(error.clone()),
            _ => (begun.elapsed() > LONGEST_SINGLES).then(out_of_time),
        };
        answers.push(answer);
        if let Some(error) = rest {
            answers.extend(vec_of(items.len() - answers.len(), &error));
            break;
        }
    }
    answers
}

/// After this many failures in a row through the installation's fault, and no success, the fault is not about one row.
const ENOUGH_ALIKE: usize = 3;
/// The whole batch waits while its requests run one by one. What is left after this time fails, and its tasks submit it
/// again: this bounds what one row costs the others when each statement waits for a lock.
const LONGEST_SINGLES: Duration = Duration::from_secs(10);

fn only<O>(mut list: Vec<O>) -> Result<O, Error> {
    list.pop().ok_or_else(lost_answer)
}

fn lost_answer() -> Error {
    Error::Again("the statement returned too few answers")
}

fn out_of_time() -> Error {
    Error::Again("the batch took too long")
}

fn vec_of<O>(count: usize, error: &Error) -> Vec<Result<O, Error>> {
    std::iter::repeat_with(|| Err(error.clone())).take(count).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::db::sqlstate::Remedy;

    fn beat() -> Beat {
        Tasks::default().beat(Task::PlanBatch)
    }

    /// A statement that doubles numbers, refuses any batch with a 13 in it, and runs only when let.
    fn doubling(sizes: Arc<Mutex<Vec<usize>>>, breaker: Arc<Semaphore>) -> Arc<Statement<u32, u32>> {
        Arc::new(move |items: &[u32]| {
            let (sizes, breaker) = (sizes.clone(), breaker.clone());
            Box::pin(async move {
                sizes.lock().unwrap().push(items.len());
                breaker.acquire().await.unwrap().forget();
                if items.contains(&13) {
                    let (code, message) = ("22000".to_owned(), "unlucky".to_owned());
                    return Err(Error::Refused { query: "double", code, message });
                }
                Ok(items.iter().map(|n| n * 2).collect())
            })
        })
    }

    #[tokio::test]
    async fn what_arrives_while_a_statement_runs_forms_the_next_one() {
        let (sizes, breaker) = (Arc::<Mutex<Vec<usize>>>::default(), Arc::new(Semaphore::new(0)));
        let batcher = Batcher::start(
            (&Tasks::default(), Task::PlanBatch),
            64,
            doubling(Arc::clone(&sizes), Arc::clone(&breaker)),
            |_| (),
        );
        let ask = |n| {
            let batcher = batcher.clone();
            tokio::spawn(async move { batcher.submit(n).await })
        };
        let mut asks = vec![ask(0)];
        while sizes.lock().unwrap().is_empty() {
            tokio::task::yield_now().await; // until the first statement runs, and waits at the breaker
        }
        asks.extend((1..10).map(ask));
        while batcher.requests.capacity() > QUEUE_LENGTH - 9 {
            tokio::task::yield_now().await; // until the others wait for the next one
        }
        breaker.add_permits(100);
        for (n, ask) in asks.into_iter().enumerate() {
            assert_eq!(ask.await.unwrap().unwrap(), 2 * n as u32);
        }
        assert_eq!(*sizes.lock().unwrap(), [1, 9]);
    }

    /// A statement that meets a fault of the installation wherever `meets` says so.
    fn faulty(sizes: Arc<Mutex<Vec<usize>>>, meets: fn(&u32) -> bool) -> Arc<Statement<u32, u32>> {
        Arc::new(move |items: &[u32]| {
            sizes.lock().unwrap().push(items.len());
            let met = items.iter().any(meets);
            let items = items.to_vec();
            Box::pin(async move {
                let (code, message, remedy) = ("P0001".to_owned(), "no".to_owned(), Remedy::Trigger);
                if met {
                    Err(Error::Installation { query: "double", code, message, remedy })
                } else {
                    Ok(items)
                }
            })
        })
    }

    #[tokio::test]
    async fn a_fault_that_meets_everybody_is_not_asked_for_by_each() {
        let sizes = Arc::<Mutex<Vec<usize>>>::default();
        let answers = answers(&faulty(Arc::clone(&sizes), |_| true), &[0; 200], &beat()).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(Error::Installation { .. }))));
        assert_eq!((answers.len(), &sizes.lock().unwrap()[..]), (200, &[200, 1, 1, 1][..]));
    }

    #[tokio::test]
    async fn a_fault_that_meets_one_row_harms_only_that() {
        let answers =
            answers(&faulty(Arc::default(), |item| *item == 5), &(0..10).collect::<Vec<_>>(), &beat()).await;
        let good: Vec<u32> = answers.iter().filter_map(|answer| answer.as_ref().ok().copied()).collect();
        assert_eq!(good, [0, 1, 2, 3, 4, 6, 7, 8, 9]);
    }

    #[tokio::test]
    async fn one_bad_request_harms_only_itself() {
        let (sizes, breaker) = (Arc::default(), Arc::new(Semaphore::new(100)));
        let statement = doubling(sizes, breaker);
        let answers = answers(&statement, &[1, 13, 3], &beat()).await;
        assert_eq!(answers[0].as_ref().unwrap(), &2);
        assert!(matches!(answers[1], Err(Error::Refused { .. })));
        assert_eq!(answers[2].as_ref().unwrap(), &6);
    }
}

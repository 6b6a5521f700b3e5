//! Batch while busy: requests that arrive while a statement is running form the next one.
//!
//! No timer: an idle database answers a single request at once, a busy one is asked in large bites. This is what makes a
//! plan, a claim and a settlement each cost one statement per batch instead of one per event.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::Error;

/// Requests waiting for the next statement. Every task of ours waits for at most one, so the pipeline's own bound on tasks
/// is the real one; this only keeps a burst from blocking.
const QUEUE_LENGTH: usize = 4096;

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
    /// Starts the task. It ends when the last handle is gone. `max` bounds one statement; `observe` hears each size.
    pub fn start(
        max: usize,
        statement: Arc<Statement<I, O>>,
        observe: impl Fn(usize) + Send + Sync + 'static,
    ) -> Self {
        let (requests, waiting) = mpsc::channel(QUEUE_LENGTH);
        tokio::spawn(run(waiting, max, statement, observe));
        Self { requests }
    }

    /// Asks, and waits for this request's own answer.
    pub async fn submit(&self, item: I) -> Result<O, Error> {
        let (answer, answered) = oneshot::channel();
        let gone = || Error::Away("the batch task has ended".to_owned());
        self.requests.send(Request { item, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn run<I: Send + Sync, O: Send>(
    mut waiting: mpsc::Receiver<Request<I, O>>,
    max: usize,
    statement: Arc<Statement<I, O>>,
    observe: impl Fn(usize),
) {
    let mut taken = Vec::with_capacity(max);
    while waiting.recv_many(&mut taken, max).await > 0 {
        observe(taken.len());
        let (items, askers): (Vec<I>, Vec<_>) =
            taken.drain(..).map(|request| (request.item, request.answer)).unzip();
        for (asker, answer) in askers.into_iter().zip(answers(&statement, &items).await) {
            // An asker that left (a hard stop) wants no answer.
            let _ = asker.send(answer);
        }
    }
}

/// One statement for all; where the database refuses it, one for each, so that one bad row harms only itself.
async fn answers<I: Sync, O>(statement: &Arc<Statement<I, O>>, items: &[I]) -> Vec<Result<O, Error>> {
    match statement(items).await {
        Ok(answers) if answers.len() == items.len() => answers.into_iter().map(Ok).collect(),
        Ok(_) => every(items.len(), || Error::Away("the statement lost an answer".to_owned())),
        Err(Error::Away(what)) => every(items.len(), || Error::Away(what.clone())),
        Err(refused) if items.len() == 1 => vec![Err(refused)],
        Err(_) => singles(statement, items).await,
    }
}

fn every<O>(count: usize, error: impl Fn() -> Error) -> Vec<Result<O, Error>> {
    std::iter::repeat_with(|| Err(error())).take(count).collect()
}

async fn singles<I: Sync, O>(statement: &Arc<Statement<I, O>>, items: &[I]) -> Vec<Result<O, Error>> {
    let mut answers = Vec::with_capacity(items.len());
    for item in items {
        let answer = statement(std::slice::from_ref(item)).await;
        answers.push(answer.and_then(|mut list| {
            list.pop().ok_or_else(|| Error::Away("the statement lost an answer".to_owned()))
        }));
    }
    answers
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Semaphore;

    use super::*;

    /// A statement that doubles numbers, refuses any batch with a 13 in it, and runs only when let.
    fn doubling(sizes: Arc<Mutex<Vec<usize>>>, gate: Arc<Semaphore>) -> Arc<Statement<u32, u32>> {
        Arc::new(move |items: &[u32]| {
            let (sizes, gate) = (sizes.clone(), gate.clone());
            Box::pin(async move {
                sizes.lock().unwrap().push(items.len());
                gate.acquire().await.unwrap().forget();
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
        let (sizes, gate) = (Arc::<Mutex<Vec<usize>>>::default(), Arc::new(Semaphore::new(0)));
        let batcher = Batcher::start(64, doubling(Arc::clone(&sizes), Arc::clone(&gate)), |_| ());
        let ask = |n| {
            let batcher = batcher.clone();
            tokio::spawn(async move { batcher.submit(n).await })
        };
        let mut asks = vec![ask(0)];
        while sizes.lock().unwrap().is_empty() {
            tokio::task::yield_now().await; // until the first statement runs, and waits at the gate
        }
        asks.extend((1..10).map(ask));
        while batcher.requests.capacity() > QUEUE_LENGTH - 9 {
            tokio::task::yield_now().await; // until the others wait for the next one
        }
        gate.add_permits(100);
        for (n, ask) in asks.into_iter().enumerate() {
            assert_eq!(ask.await.unwrap().unwrap(), 2 * n as u32);
        }
        assert_eq!(*sizes.lock().unwrap(), [1, 9]);
    }

    #[tokio::test]
    async fn one_bad_request_harms_only_itself() {
        let (sizes, gate) = (Arc::default(), Arc::new(Semaphore::new(100)));
        let statement = doubling(sizes, gate);
        let answers = answers(&statement, &[1, 13, 3]).await;
        assert_eq!(answers[0].as_ref().unwrap(), &2);
        assert!(matches!(answers[1], Err(Error::Refused { .. })));
        assert_eq!(answers[2].as_ref().unwrap(), &6);
    }
}

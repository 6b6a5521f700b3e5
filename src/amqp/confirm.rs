//! The publisher's confirm channel: one batch at a time, judged as a whole.

use std::collections::HashSet;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::{Channel, Confirmation, ErrorKind, PublisherConfirm};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::declare::TopologyError;
use super::live::Live;
use super::outgoing::{Outgoing, PublishError, Request, Route};
use super::request::{LinkError, farewell, in_time};
use super::topology::Topology;
use super::wire::{self, short};

/// Publishes per batch. More would make the first wait for the last; fewer would cost the disk more syncs.
const BATCH: usize = 256;
/// A quorum queue confirms after its majority's disk, in milliseconds; after this long nobody will.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// The confirm channel of one incarnation, and what is known to stand at the end of it.
pub(super) struct ConfirmChannel {
    live: Arc<Live>,
    channel: Channel,
    topology: Arc<Topology>,
    /// Lanes declared in this incarnation.
    lanes: HashSet<String>,
}

/// What became of one publish, before returns are taken into account.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Confirmed. Carries the route of a message that came back: *some* message of the batch, hardly this one.
    Acked {
        returned: Option<Route>,
    },
    Refused,
    /// The broker ended the channel over a publish of the batch: its exchange is missing, or it is not for us.
    Ended(PublishError),
    /// The channel ended first.
    Lost,
}

impl ConfirmChannel {
    pub async fn open(live: Arc<Live>, topology: Arc<Topology>) -> Result<Self, LinkError> {
        let channel = live.channel().await?;
        in_time("confirm.select", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self { live, channel, topology, lanes: HashSet::new() })
    }

    /// Publishes what is asked until the incarnation is over, or nobody can ask any more (then false).
    pub async fn serve(&mut self, requests: &mut mpsc::Receiver<Request>) -> bool {
        let mut batch = Vec::with_capacity(BATCH);
        let over = self.live.over().clone();
        loop {
            let taken = over.run_until_cancelled(requests.recv_many(&mut batch, BATCH)).await;
            match taken {
                None => return true,
                Some(0) => return false,
                // Nothing would be read; a publish now would sit in our memory until the alarm is over.
                Some(_) if self.live.blocked() => refuse(&mut batch),
                Some(_) => self.publish(&mut batch, requests).await,
            }
        }
    }

    async fn publish(&mut self, batch: &mut Vec<Request>, requests: &mut mpsc::Receiver<Request>) {
        self.declare_lanes(batch).await;
        let (outgoing, answers): (Vec<_>, Vec<_>) = batch.drain(..).map(Request::split).unzip();
        let channel = self.channel.clone();
        let mut exchange = pin!(exchange(&channel, &outgoing));
        let over = self.live.over().clone();
        let live = self.live.clone();
        let confirmed = over
            .run_until_cancelled(async {
                tokio::select! {
                    biased;
                    confirmed = timeout(CONFIRM_TIMEOUT, exchange.as_mut()) => confirmed.map_err(|_| PublishError::Away),
                    () = live.until_blocked() => Err(PublishError::Blocked),
                }
            })
            .await;
        let judgements = match &confirmed {
            Some(Ok(verdicts)) => self.judge(&outgoing, verdicts),
            Some(Err(error)) => vec![Err(*error); outgoing.len()],
            None => vec![Err(PublishError::Away); outgoing.len()],
        };
        for (answer, judgement) in answers.into_iter().zip(judgements) {
            // The caller may have stopped waiting.
            let _ = answer.send(judgement);
        }
        match confirmed {
            Some(Err(PublishError::Blocked)) => self.sit_out(exchange, requests).await,
            Some(Err(_)) if self.live.blocked() => self.sit_out(exchange, requests).await,
            Some(Err(_)) => self.live.condemn("published messages were not confirmed in time"),
            _ => {}
        }
    }

    /// A lane is declared when the first message for it comes by.
    async fn declare_lanes(&mut self, batch: &[Request]) {
        for queue in batch.iter().filter_map(Request::queue) {
            if self.topology.is_lane(queue) && !self.lanes.contains(queue) {
                if let Err(error) = declare(&self.live, &self.topology, queue).await {
                    // Publishing shows whether it exists; the consumer reports other arguments.
                    debug!(queue, %error, "cannot declare a lane");
                }
                self.lanes.insert(queue.to_owned());
            }
        }
    }

    /// Turns verdicts into answers, and acts on what they say about the broker.
    fn judge(&mut self, outgoing: &[Outgoing], verdicts: &[Verdict]) -> Vec<Result<(), PublishError>> {
        if let Some(Verdict::Ended(error)) =
            verdicts.iter().find(|verdict| matches!(verdict, Verdict::Ended(_)))
        {
            self.live.condemn(error);
        }
        if verdicts.contains(&Verdict::Lost) {
            self.live.condemn("the confirm channel ended");
        }
        let routes: Vec<&Route> = outgoing.iter().map(|outgoing| &outgoing.route).collect();
        let judgements = judge(&routes, verdicts);
        for (route, judgement) in routes.into_iter().zip(&judgements) {
            if *judgement == Err(PublishError::Unroutable) && self.topology.is_ours(&route.routing_key) {
                warn!(
                    queue = route.routing_key,
                    "one of our queues is missing; reconnecting to declare it again"
                );
                self.live.condemn("a queue is missing");
            }
        }
        judgements
    }

    /// The broker reads nothing more: the batch stays under way, as its verdicts would get mixed up with those of the
    /// next, and requests meanwhile are refused.
    async fn sit_out(
        &self,
        mut exchange: Pin<&mut impl Future<Output = Vec<Verdict>>>,
        requests: &mut mpsc::Receiver<Request>,
    ) {
        warn!("the broker blocks publishers (memory or disk alarm); publishing waits until the alarm ends");
        loop {
            tokio::select! {
                () = self.live.over().cancelled() => return,
                _ = exchange.as_mut() => return,
                request = requests.recv() => match request {
                    Some(request) => request.answer(Err(PublishError::Blocked)),
                    None => return,
                },
            }
        }
    }
}

/// On a channel of its own: a refusal would end the confirm channel.
async fn declare(live: &Live, topology: &Topology, queue: &str) -> Result<(), TopologyError> {
    let channel = live.channel().await?;
    topology.declare_queue(&channel, queue).await?;
    farewell(channel).await;
    Ok(())
}

/// Publishes all, then waits for every verdict.
async fn exchange(channel: &Channel, outgoing: &[Outgoing]) -> Vec<Verdict> {
    let mut confirms = Vec::with_capacity(outgoing.len());
    for one in outgoing {
        confirms.push(send(channel, one).await);
    }
    join_all(confirms.into_iter().map(verdict)).await
}

async fn send(channel: &Channel, outgoing: &Outgoing) -> lapin::Result<PublisherConfirm> {
    let Outgoing { route, message, mandatory } = outgoing;
    let options = BasicPublishOptions { mandatory: *mandatory, immediate: false };
    let (exchange, key) = (short(&route.exchange), short(&route.routing_key));
    channel.basic_publish(exchange, key, options, &message.body, wire::properties(message)).await
}

async fn verdict(confirm: lapin::Result<PublisherConfirm>) -> Verdict {
    let confirmation = match confirm {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    match confirmation {
        Ok(Confirmation::Ack(returned)) => {
            Verdict::Acked { returned: returned.map(|returned| route_of(&returned)) }
        }
        Ok(Confirmation::Nack(_)) => Verdict::Refused,
        Err(error) => ended(&error).map_or(Verdict::Lost, Verdict::Ended),
        Ok(Confirmation::NotRequested) => Verdict::Lost,
    }
}

/// What the broker has against a publish, where it ended the channel over it.
fn ended(error: &lapin::Error) -> Option<PublishError> {
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    match error.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Some(PublishError::NoExchange),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Some(PublishError::Forbidden),
        _ => None,
    }
}

fn route_of(returned: &BasicReturnMessage) -> Route {
    Route::exchange(returned.exchange.as_str(), returned.routing_key.as_str())
}

/// Every message whose route shows up among the returned ones is unroutable, whichever confirm the return came with.
fn judge(routes: &[&Route], verdicts: &[Verdict]) -> Vec<Result<(), PublishError>> {
    let nowhere: HashSet<&Route> = verdicts
        .iter()
        .filter_map(|verdict| match verdict {
            Verdict::Acked { returned } => returned.as_ref(),
            Verdict::Refused | Verdict::Ended(_) | Verdict::Lost => None,
        })
        .collect();
    let judgement = |(route, verdict): (&&Route, &Verdict)| match verdict {
        _ if nowhere.contains(*route) => Err(PublishError::Unroutable),
        Verdict::Acked { .. } => Ok(()),
        Verdict::Refused => Err(PublishError::Refused),
        Verdict::Ended(error) => Err(*error),
        Verdict::Lost => Err(PublishError::Away),
    };
    routes.iter().zip(verdicts).map(judgement).collect()
}

fn refuse(batch: &mut Vec<Request>) {
    for request in batch.drain(..) {
        request.answer(Err(PublishError::Blocked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_counts_for_its_route_not_for_the_confirm_it_came_with() {
        let (there, gone) = (Route::queue("there"), Route::queue("gone"));
        let verdicts = [
            Verdict::Acked { returned: Some(gone.clone()) },
            Verdict::Acked { returned: None },
            Verdict::Refused,
            Verdict::Lost,
        ];
        let judgements = judge(&[&there, &gone, &there, &there], &verdicts);
        assert_eq!(
            judgements,
            [Ok(()), Err(PublishError::Unroutable), Err(PublishError::Refused), Err(PublishError::Away)]
        );
    }
}

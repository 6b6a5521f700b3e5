//! One request to the broker: bounded in time, its failure told apart.

use std::time::Duration;

use lapin::{Channel, ErrorKind};
use tracing::debug;

/// One request to the broker. A quorum queue on a busy disk can be slow; a dead broker never answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Saying goodbye is a courtesy.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// What lapin, or time, said against a request of ours.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    #[error("no connection to the broker")]
    Away,
    #[error("{step} took longer than {}s", .after.as_secs())]
    Timeout { step: &'static str, after: Duration },
    #[error("{step}: {source}")]
    Amqp { step: &'static str, source: Box<lapin::Error> },
}

impl LinkError {
    /// The broker's text where it closed only the channel: it does not like the request, the connection is fine.
    pub(super) fn refusal(&self) -> Option<String> {
        match self {
            Self::Amqp { source, .. } if source.is_amqp_soft_error() => match source.kind() {
                ErrorKind::ProtocolError(error) => Some(error.get_message().to_string()),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Runs one request to the broker, bounded in time.
pub(super) async fn in_time<T>(
    step: &'static str,
    request: impl Future<Output = lapin::Result<T>>,
) -> Result<T, LinkError> {
    within(ANSWER_TIMEOUT, step, request).await
}

/// Runs one request to the broker, bounded by `after`.
pub(super) async fn within<T>(
    after: Duration,
    step: &'static str,
    request: impl Future<Output = lapin::Result<T>>,
) -> Result<T, LinkError> {
    match tokio::time::timeout(after, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(LinkError::Amqp { step, source: Box::new(source) }),
        Err(_) => Err(LinkError::Timeout { step, after }),
    }
}

/// Closes a channel that has done its work. It ends either way; the broker only frees it sooner.
pub(super) async fn farewell(channel: Channel) {
    let closing = channel.close(200, "done".into());
    if let Err(error) = within(CLOSE_TIMEOUT, "channel.close", closing).await {
        debug!(%error, "closing a channel failed");
    }
}

//! From the dead queue into the archive. Content never stops it: what cannot be stored as it is, is stored plainer.

use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::json;

use crate::db::dead_letters::{self, Received};
use crate::db::{Database, Error};
use crate::domain::dead_letter::{About, DeadLetter};
use crate::domain::outcome::DeadReason;
use crate::failpoint::panic_point;

/// Bytes of bodies in one statement. Larger batches only cost memory; one body above it goes alone.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// What may be done with a message whose dead letter is in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Ack it.
    Kept,
    /// Keep it and archive it again later: a process still holds a claim on its delivery, and if that process dies, this message
    /// is the last that can settle the row. Or PostgreSQL refuses even its body.
    ComeAgain,
}

/// Archives messages of the dead queue, in their order. Doing it twice is doing it once.
///
/// An error means that nothing may be acked: PostgreSQL, or the installation, has to be waited for.
pub async fn archive_batch(db: &Database, received: &[Received]) -> Result<Vec<Verdict>, Error> {
    let mut archived = Vec::with_capacity(received.len());
    for chunk in chunks(received) {
        archived.append(&mut archive_chunk(db, chunk).await?);
    }
    let mut verdicts = Vec::with_capacity(received.len());
    for (received, archived) in received.iter().zip(archived) {
        verdicts.push(if archived { settle(db, received).await? } else { Verdict::ComeAgain });
    }
    Ok(verdicts)
}

/// Splits where a chunk's bodies would grow beyond [`MAX_BATCH_BYTES`].
fn chunks(received: &[Received]) -> Vec<&[Received]> {
    let mut chunks = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, it) in received.iter().enumerate() {
        if at > start && bytes + it.body.len() > MAX_BATCH_BYTES {
            chunks.push(&received[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += it.body.len();
    }
    if start < received.len() {
        chunks.push(&received[start..]);
    }
    chunks
}

/// All at once; where that fails, one by one, so that one odd dead letter harms only itself.
async fn archive_chunk(db: &Database, received: &[Received]) -> Result<Vec<bool>, Error> {
    match attempt(db, received).await {
        Ok(()) => return Ok(vec![true; received.len()]),
        Err(Fault::Wait(error)) => return Err(error),
        Err(Fault::DeadLetters(why)) => {
            tracing::warn!(
                why,
                dead_letters = received.len(),
                "cannot archive a batch of dead letters; archiving them one by one"
            );
        }
    }
    let mut archived = Vec::with_capacity(received.len());
    for it in received {
        archived.push(archive_alone(db, it).await?);
    }
    Ok(archived)
}

/// As it is, else raw, else the body alone. False where even that is refused: then the message stays in the queue.
async fn archive_alone(db: &Database, received: &Received) -> Result<bool, Error> {
    let mut why = String::new();
    let identity = &received.dead_letter.identity;
    for form in [Received::clone as fn(&Received) -> Received, raw, body_alone] {
        let mut form = form(received);
        if !why.is_empty() {
            form.dead_letter.errmsg = Some(why.clone());
        }
        match attempt(db, &[form]).await {
            Ok(()) if why.is_empty() => return Ok(true),
            Ok(()) => {
                tracing::error!(
                    why,
                    dead_letter = identity,
                    "cannot archive a dead letter as it is; archived raw, as unreadable"
                );
                return Ok(true);
            }
            Err(Fault::Wait(error)) => return Err(error),
            Err(Fault::DeadLetters(fault)) => why = fault,
        }
    }
    tracing::error!(why, dead_letter = identity, "cannot archive a dead letter; it stays in the dead queue");
    Ok(false)
}

/// Why dead letters are not archived.
enum Fault {
    /// PostgreSQL is away, or the installation is at fault: nothing is held against a dead letter.
    Wait(Error),
    /// Something in them.
    DeadLetters(String),
}

async fn attempt(db: &Database, received: &[Received]) -> Result<(), Fault> {
    let archiving = async {
        panic_point("dead_letters_archived");
        dead_letters::archive(db, received).await
    };
    match AssertUnwindSafe(archiving).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.is_away() => Err(Fault::Wait(error)),
        Ok(Err(error)) => Err(Fault::DeadLetters(error.to_string())),
        // The panic hook has logged it.
        Err(_panic) => Err(Fault::DeadLetters("archiving it panicked".to_owned())),
    }
}

/// What names the delivery, the body and the headers; nothing that was read for people.
fn raw(received: &Received) -> Received {
    let dead_letter = DeadLetter {
        reason: DeadReason::Unreadable.into(),
        class: None,
        errcode: None,
        field: None,
        trace_id: None,
        rid: None,
        token_generation: None,
        ..received.dead_letter.clone()
    };
    Received { dead_letter, ..received.clone() }
}

/// Nothing in it can be refused for what it says.
fn body_alone(received: &Received) -> Received {
    unreadable(received.dead_letter.identity.clone(), received.body.clone(), None)
}

/// A dead letter of which nothing but the body is known, and why that is so.
pub fn unreadable(identity: String, body: Bytes, errmsg: Option<String>) -> Received {
    let dead_letter = DeadLetter::new(identity, DeadReason::Unreadable, About::default());
    Received { dead_letter: DeadLetter { errmsg, ..dead_letter }, body, headers: json!({}) }
}

/// Who publishes a dead letter also settles its row. The broker does not, and a panic may have prevented it.
async fn settle(db: &Database, received: &Received) -> Result<Verdict, Error> {
    let DeadLetter { identity, reason, .. } = &received.dead_letter;
    if !matches!(reason.known(), Some(DeadReason::DeliveryLimit | DeadReason::Panicked)) {
        return Ok(Verdict::Kept);
    }
    match AssertUnwindSafe(dead_letters::settle_given_up(db, received)).catch_unwind().await {
        Ok(Ok(true)) => Ok(Verdict::Kept),
        Ok(Ok(false)) => Ok(Verdict::ComeAgain),
        Ok(Err(error)) if error.is_away() => Err(error),
        failed => {
            // Its row stays unfinished, where `deliveries list --stranded` shows it.
            let why = match failed {
                Ok(refused) => refused.err().map_or_else(String::new, |error| error.to_string()),
                Err(_panic) => "it panicked".to_owned(),
            };
            tracing::error!(
                why,
                dead_letter = identity,
                "cannot settle the delivery of an archived dead letter"
            );
            Ok(Verdict::Kept)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(bytes: usize) -> Received {
        unreadable("a".to_owned(), vec![b'x'; bytes].into(), None)
    }

    #[test]
    fn a_statement_holds_a_bounded_number_of_bytes() {
        let batch = [
            received(10),
            received(MAX_BATCH_BYTES),
            received(MAX_BATCH_BYTES + 1),
            received(10),
            received(10),
        ];
        let sizes: Vec<usize> = chunks(&batch).into_iter().map(<[Received]>::len).collect();
        assert_eq!(sizes, [1, 1, 1, 2]);
        assert!(chunks(&[]).is_empty());
    }
}

//! From the dead queue into the archive. Content never stops it: what cannot be stored as it is, is stored plainer.

use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::json;

use crate::db::dead_letters::{self, DeadLetter};
use crate::db::{Database, Error};
use crate::domain::dead_letter;
use crate::domain::outcome::DeadReason;
use crate::failpoint::panic_point;

/// Bytes of bodies in one statement. Larger batches only cost memory; one body above it goes alone.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// What may be done with a message whose dead letter is in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Ack it.
    Kept,
    /// Keep it and archive it again in a while: somebody still holds a claim on its delivery, and should he die, this
    /// message is the last that can settle the row. Or PostgreSQL refuses even its body.
    ComeAgain,
}

/// Archives messages of the dead queue, in their order. Doing it twice is doing it once.
///
/// An error means that nothing may be acked: PostgreSQL, or the installation, has to be waited for.
pub async fn archive_batch(db: &Database, dead_letters: &[DeadLetter]) -> Result<Vec<Verdict>, Error> {
    let mut archived = Vec::with_capacity(dead_letters.len());
    for chunk in chunks(dead_letters) {
        archived.append(&mut archive_chunk(db, chunk).await?);
    }
    let mut verdicts = Vec::with_capacity(dead_letters.len());
    for (dead_letter, archived) in dead_letters.iter().zip(archived) {
        verdicts.push(if archived { settle(db, dead_letter).await? } else { Verdict::ComeAgain });
    }
    Ok(verdicts)
}

/// Splits where a chunk's bodies would grow beyond [`MAX_BATCH_BYTES`].
fn chunks(dead_letters: &[DeadLetter]) -> Vec<&[DeadLetter]> {
    let mut chunks = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, dead_letter) in dead_letters.iter().enumerate() {
        if at > start && bytes + dead_letter.body.len() > MAX_BATCH_BYTES {
            chunks.push(&dead_letters[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += dead_letter.body.len();
    }
    if start < dead_letters.len() {
        chunks.push(&dead_letters[start..]);
    }
    chunks
}

/// All at once; where that fails, one by one, so that one odd dead letter harms only itself.
async fn archive_chunk(db: &Database, dead_letters: &[DeadLetter]) -> Result<Vec<bool>, Error> {
    match attempt(db, dead_letters).await {
        Ok(()) => return Ok(vec![true; dead_letters.len()]),
        Err(Fault::Wait(error)) => return Err(error),
        Err(Fault::DeadLetters(why)) => {
            tracing::warn!(
                why,
                dead_letters = dead_letters.len(),
                "cannot archive a batch of dead letters; archiving them one by one"
            );
        }
    }
    let mut archived = Vec::with_capacity(dead_letters.len());
    for dead_letter in dead_letters {
        archived.push(archive_alone(db, dead_letter).await?);
    }
    Ok(archived)
}

/// As it is, else raw, else the body alone. False where even that is refused: then the message stays in the queue.
async fn archive_alone(db: &Database, dead_letter: &DeadLetter) -> Result<bool, Error> {
    let mut why = String::new();
    for form in [DeadLetter::clone as fn(&DeadLetter) -> DeadLetter, raw, body_alone] {
        let form = form(dead_letter);
        let form = if why.is_empty() { form } else { DeadLetter { errmsg: Some(why.clone()), ..form } };
        match attempt(db, &[form]).await {
            Ok(()) if why.is_empty() => return Ok(true),
            Ok(()) => {
                tracing::error!(
                    why,
                    dead_letter = dead_letter.identity,
                    "cannot archive a dead letter as it is; archived raw, as unreadable"
                );
                return Ok(true);
            }
            Err(Fault::Wait(error)) => return Err(error),
            Err(Fault::DeadLetters(fault)) => why = fault,
        }
    }
    tracing::error!(
        why,
        dead_letter = dead_letter.identity,
        "cannot archive a dead letter; it stays in the dead queue"
    );
    Ok(false)
}

/// Why dead letters are not archived.
enum Fault {
    /// PostgreSQL is away, or the installation is at fault: nothing is held against a dead letter.
    Wait(Error),
    /// Something in them.
    DeadLetters(String),
}

async fn attempt(db: &Database, dead_letters: &[DeadLetter]) -> Result<(), Fault> {
    let archiving = async {
        panic_point("dead_letters_archived");
        dead_letters::archive(db, dead_letters).await
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
fn raw(dead_letter: &DeadLetter) -> DeadLetter {
    DeadLetter {
        reason: DeadReason::Unreadable,
        class: None,
        errcode: None,
        field: None,
        trace_id: None,
        rid: None,
        token_generation: None,
        fingerprint: unreadable_group(),
        ..dead_letter.clone()
    }
}

/// Nothing in it can be refused for what it says.
fn body_alone(dead_letter: &DeadLetter) -> DeadLetter {
    unreadable(dead_letter.identity.clone(), dead_letter.body.clone())
}

/// A dead letter of which nothing but the body is known.
pub fn unreadable(identity: String, body: Bytes) -> DeadLetter {
    DeadLetter {
        identity,
        reason: DeadReason::Unreadable,
        class: None,
        errcode: None,
        errmsg: None,
        field: None,
        app_id: None,
        template_id: None,
        company_no: None,
        event_id: None,
        recipient: None,
        openid: None,
        sys_user_id: None,
        epoch: None,
        attempts: 0,
        first_failed_at: None,
        last_failed_at: None,
        trace_id: None,
        rid: None,
        token_generation: None,
        fingerprint: unreadable_group(),
        body,
        headers: json!({}),
    }
}

/// All of them in one group: they say too little to tell them apart.
fn unreadable_group() -> String {
    dead_letter::fingerprint(DeadReason::Unreadable.as_str(), None, None, None, None)
}

/// Dead letters are settled by whoever writes them; but the broker settles nothing, and a panic may have come before.
async fn settle(db: &Database, dead_letter: &DeadLetter) -> Result<Verdict, Error> {
    if !matches!(dead_letter.reason, DeadReason::DeliveryLimit | DeadReason::Panicked) {
        return Ok(Verdict::Kept);
    }
    match AssertUnwindSafe(dead_letters::settle_carried(db, dead_letter)).catch_unwind().await {
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
                dead_letter = dead_letter.identity,
                "cannot settle the delivery of an archived dead letter"
            );
            Ok(Verdict::Kept)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::dead_letters::{Arrived, read};

    fn dead_letter(bytes: usize) -> DeadLetter {
        read(Arrived { body: vec![b'x'; bytes].into(), headers: Map::new(), message_id: None })
    }

    #[test]
    fn a_statement_holds_a_bounded_number_of_bytes() {
        let dead_letters = [
            dead_letter(10),
            dead_letter(MAX_BATCH_BYTES),
            dead_letter(MAX_BATCH_BYTES + 1),
            dead_letter(10),
            dead_letter(10),
        ];
        let sizes: Vec<usize> = chunks(&dead_letters).into_iter().map(<[DeadLetter]>::len).collect();
        assert_eq!(sizes, [1, 1, 1, 2]);
        assert!(chunks(&[]).is_empty());
    }
}

//! From the dead queue into the archive. Content never stops it: what cannot be stored as it is, is stored plainer.

use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::json;

use crate::db::letters::{self, Letter};
use crate::db::{Database, Error};
use crate::domain::letter;
use crate::domain::outcome::DeadReason;
use crate::failpoint::panic_point;

/// Bytes of bodies in one statement. Larger batches only cost memory; one body above it goes alone.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// What may be done with a message whose letter is in the archive.
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
pub async fn archive_batch(db: &Database, letters: &[Letter]) -> Result<Vec<Verdict>, Error> {
    let mut archived = Vec::with_capacity(letters.len());
    for chunk in chunks(letters) {
        archived.append(&mut archive_chunk(db, chunk).await?);
    }
    let mut verdicts = Vec::with_capacity(letters.len());
    for (letter, archived) in letters.iter().zip(archived) {
        verdicts.push(if archived { settle(db, letter).await? } else { Verdict::ComeAgain });
    }
    Ok(verdicts)
}

/// Splits where a chunk's bodies would grow beyond [`MAX_BATCH_BYTES`].
fn chunks(letters: &[Letter]) -> Vec<&[Letter]> {
    let mut chunks = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, letter) in letters.iter().enumerate() {
        if at > start && bytes + letter.body.len() > MAX_BATCH_BYTES {
            chunks.push(&letters[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += letter.body.len();
    }
    if start < letters.len() {
        chunks.push(&letters[start..]);
    }
    chunks
}

/// All at once; where that fails, one by one, so that one odd letter harms only itself.
async fn archive_chunk(db: &Database, letters: &[Letter]) -> Result<Vec<bool>, Error> {
    match attempt(db, letters).await {
        Ok(()) => return Ok(vec![true; letters.len()]),
        Err(Fault::Wait(error)) => return Err(error),
        Err(Fault::Letters(why)) => {
            tracing::warn!(why, letters = letters.len(), "a batch of dead letters is archived one by one");
        }
    }
    let mut archived = Vec::with_capacity(letters.len());
    for letter in letters {
        archived.push(archive_alone(db, letter).await?);
    }
    Ok(archived)
}

/// As it is, else raw, else the body alone. False where even that is refused: then the message stays in the queue.
async fn archive_alone(db: &Database, letter: &Letter) -> Result<bool, Error> {
    let mut why = String::new();
    for form in [Letter::clone as fn(&Letter) -> Letter, raw, body_alone] {
        let form = form(letter);
        let form = if why.is_empty() { form } else { Letter { errmsg: Some(why.clone()), ..form } };
        match attempt(db, &[form]).await {
            Ok(()) if why.is_empty() => return Ok(true),
            Ok(()) => {
                tracing::error!(why, letter = letter.letter, "a dead letter is archived raw, as unreadable");
                return Ok(true);
            }
            Err(Fault::Wait(error)) => return Err(error),
            Err(Fault::Letters(fault)) => why = fault,
        }
    }
    tracing::error!(
        why,
        letter = letter.letter,
        "a dead letter cannot be archived; it stays in the dead queue"
    );
    Ok(false)
}

/// Why letters are not archived.
enum Fault {
    /// PostgreSQL is away, or the installation is at fault: nothing is held against a letter.
    Wait(Error),
    /// Something in them.
    Letters(String),
}

async fn attempt(db: &Database, letters: &[Letter]) -> Result<(), Fault> {
    let archiving = async {
        panic_point("letters_archived");
        letters::archive(db, letters).await
    };
    match AssertUnwindSafe(archiving).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.is_away() => Err(Fault::Wait(error)),
        Ok(Err(error)) => Err(Fault::Letters(error.to_string())),
        // The panic hook has logged it.
        Err(_panic) => Err(Fault::Letters("archiving it panicked".to_owned())),
    }
}

/// What names the delivery, the body and the headers; nothing that was read for people.
fn raw(letter: &Letter) -> Letter {
    Letter {
        reason: DeadReason::Unreadable,
        class: None,
        errcode: None,
        field: None,
        trace_id: None,
        rid: None,
        token_generation: None,
        fingerprint: unreadable_group(),
        ..letter.clone()
    }
}

/// Nothing in it can be refused for what it says.
fn body_alone(letter: &Letter) -> Letter {
    unreadable(letter.letter.clone(), letter.body.clone())
}

/// A letter of which nothing but the body is known.
pub fn unreadable(identity: String, body: Bytes) -> Letter {
    Letter {
        letter: identity,
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
        turn: None,
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
    letter::fingerprint(DeadReason::Unreadable.as_str(), None, None, None, None)
}

/// Letters are settled by whoever writes them; but the broker settles nothing, and a panic may have come before.
async fn settle(db: &Database, letter: &Letter) -> Result<Verdict, Error> {
    if !matches!(letter.reason, DeadReason::DeliveryLimit | DeadReason::Panicked) {
        return Ok(Verdict::Kept);
    }
    match AssertUnwindSafe(letters::settle_carried(db, letter)).catch_unwind().await {
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
                letter = letter.letter,
                "the delivery of an archived dead letter cannot be settled"
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

    fn letter(bytes: usize) -> Letter {
        read(Arrived { body: vec![b'x'; bytes].into(), headers: Map::new(), message_id: None })
    }

    #[test]
    fn a_statement_holds_a_bounded_number_of_bytes() {
        let letters =
            [letter(10), letter(MAX_BATCH_BYTES), letter(MAX_BATCH_BYTES + 1), letter(10), letter(10)];
        let sizes: Vec<usize> = chunks(&letters).into_iter().map(<[Letter]>::len).collect();
        assert_eq!(sizes, [1, 1, 1, 2]);
        assert!(chunks(&[]).is_empty());
    }
}

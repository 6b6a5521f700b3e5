//! From the dead queue into the archive. Content never stops it: what cannot be stored as it is, is stored plainer.

use serde_json::json;

use crate::db::letters::{self, Letter};
use crate::db::{Database, Error};
use crate::domain::outcome::DeadReason;

/// Bytes of bodies in one statement. Larger batches only cost memory; one body above it goes alone.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// What may be done with a message whose letter is in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Ack it.
    Kept,
    /// Keep it and archive it again in a while: somebody still holds a claim on its delivery, and should he die, this
    /// message is the last that can settle the row.
    ComeAgain,
}

/// Archives messages of the dead queue, in their order. Doing it twice is doing it once.
///
/// An error means that nothing may be acked: the database is away, or refuses even the plainest form.
pub async fn archive_batch(db: &Database, letters: &[Letter]) -> Result<Vec<Verdict>, Error> {
    for chunk in chunks(letters) {
        archive_chunk(db, chunk).await?;
    }
    let mut verdicts = Vec::with_capacity(letters.len());
    for letter in letters {
        verdicts.push(settle(db, letter).await?);
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

/// All at once; where the database refuses that, one by one, so that one odd letter harms only itself.
async fn archive_chunk(db: &Database, letters: &[Letter]) -> Result<(), Error> {
    match letters::archive(db, letters).await {
        Err(error) if !error.is_away() => {
            tracing::warn!(%error, letters = letters.len(), "a batch of dead letters is archived one by one");
            for letter in letters {
                archive_alone(db, letter).await?;
            }
            Ok(())
        }
        archived => archived,
    }
}

async fn archive_alone(db: &Database, letter: &Letter) -> Result<(), Error> {
    match letters::archive(db, std::slice::from_ref(letter)).await {
        Err(error) if !error.is_away() => {
            tracing::error!(%error, letter = letter.letter, "a dead letter is archived without its headers");
            letters::archive(db, &[plainest(letter)]).await
        }
        archived => archived,
    }
}

/// Identity, reason and body: nothing in it can be refused for what it says.
fn plainest(letter: &Letter) -> Letter {
    Letter {
        headers: json!({}),
        errmsg: None,
        field: None,
        event_id: None,
        recipient: None,
        openid: None,
        sys_user_id: None,
        trace_id: None,
        rid: None,
        ..letter.clone()
    }
}

/// Letters are settled by whoever writes them; but the broker settles nothing, and a panic may have come before.
async fn settle(db: &Database, letter: &Letter) -> Result<Verdict, Error> {
    let is_settled = !matches!(letter.reason, DeadReason::DeliveryLimit | DeadReason::Panicked);
    if is_settled || letters::settle_carried(db, letter).await? {
        Ok(Verdict::Kept)
    } else {
        Ok(Verdict::ComeAgain)
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

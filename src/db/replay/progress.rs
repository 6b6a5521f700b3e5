//! How far a replay is, and every step it takes.

use std::time::Duration;

use deadpool_postgres::Transaction;

use crate::db::query::{self, columns, sql};
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::replay::{Canary, Refusal, State, Tally};

/// A replay as its command needs to see it, again and again: one row.
#[derive(Debug, Clone)]
pub struct Standing {
    pub state: State,
    pub rate_per_second: i32,
    pub canary: Canary,
    pub max_failed_percent: i32,
    pub canary_wait: Duration,
    pub steps_passed: i32,
    pub even_expired: bool,
    pub re_resolve: bool,
    pub dead_letters: i64,
    pub published: i64,
    pub refused: i64,
}

/// `None` where there is no such replay.
pub async fn standing(db: &Database, replay: i64) -> Result<Option<Standing>, Error> {
    const SQL: &str = "-- replay::standing
        SELECT state, rate_per_second, canary, max_failed_percent, canary_wait_s, steps_passed, even_expired, re_resolve,
               dead_letters, published, refused
          FROM t_wechat_replay WHERE id = :replay";
    let row = sql!(SQL, replay).optional(&db.durable().await?).await?;
    row.map(|row| {
        Ok(Standing {
            state: state(row.read("state")?)?,
            rate_per_second: row.read("rate_per_second")?,
            canary: Canary::of(row.read("canary")?),
            max_failed_percent: row.read("max_failed_percent")?,
            canary_wait: Duration::from_secs(row.read::<i64>("canary_wait_s")?.unsigned_abs()),
            steps_passed: row.read("steps_passed")?,
            even_expired: row.read("even_expired")?,
            re_resolve: row.read("re_resolve")?,
            dead_letters: row.read("dead_letters")?,
            published: row.read("published")?,
            refused: row.read("refused")?,
        })
    })
    .transpose()
}

pub(super) fn state(word: &str) -> Result<State, Error> {
    State::parse(word)
        .ok_or_else(|| Error::Unreadable { table: "t_wechat_replay", what: format!("state {word}") })
}

/// The right to publish for one replay, as long as the value lives: its connection holds a lock, and a process that dies
/// loses it.
pub struct Held(#[expect(dead_code, reason = "the connection holds the lock")] deadpool_postgres::Object);

/// Takes the right; `None` while another command has it.
pub async fn hold(db: &Database, replay: i64) -> Result<Option<Held>, Error> {
    const HOLD: &str = "-- replay::hold
        SELECT pg_try_advisory_lock(hashtextextended(current_schema() || ' replay ' || :replay::bigint, 0))";
    let client = db.durable().await?;
    let held: bool = sql!(HOLD, replay).one(&client).await?.read(0)?;
    Ok(held.then_some(Held(client)))
}

/// What was done about one dead letter of the set.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    pub dead_letter: i64,
    pub what: Marked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// Confirmed by the broker, or found out already.
    Published,
    /// The dead letter is open again.
    Refused(Refusal),
    /// The rules were asked again and no longer name the recipient: nothing was sent, and that is the end of it.
    NotNamed,
}

columns! {
    /// What marks change in the rows of the set.
    struct Changes<'a>(mark: &'a Mark) {
        dead_letter: i64 = mark.dead_letter,
        state: &'static str = state_of(mark.what),
        refusal: Option<&'static str> = refusal_of(mark.what),
        outcome: Option<&'static str> = (mark.what == Marked::NotNamed).then_some("skipped"),
        reason: Option<&'static str> = (mark.what == Marked::NotNamed).then_some("not_named"),
    }
}

/// Writes a batch of marks down, with the canary's step they belong to. What was published counts even where an operator
/// has cancelled the replay meanwhile, unless another replay has taken the dead letter since: that one finds it on its way.
///
/// Every statement that moves a dead letter of a replay locks it first (see [`lock`]), and decides by what it finds then.
pub async fn mark(db: &Database, replay: i64, step: i32, marks: &[Mark]) -> Result<(), Error> {
    const MARK: &str = "-- replay::mark
        WITH changed AS (
            UPDATE t_wechat_replay_dead_letter r
               SET state = i.state, refusal = i.refusal, outcome = i.outcome, reason = i.reason, step = :step,
                   published_at = CASE WHEN i.state <> 'refused' THEN clock_timestamp() END,
                   ended_at = CASE WHEN i.state <> 'published' THEN clock_timestamp() END
              FROM :i
             WHERE r.replay = :replay AND r.dead_letter = i.dead_letter
               AND (r.state = 'pending' OR (r.state = 'cancelled' AND i.state <> 'refused'
                    AND NOT EXISTS (SELECT FROM t_wechat_replay_dead_letter o
                                     WHERE o.dead_letter = r.dead_letter AND o.replay <> r.replay
                                       AND o.state IN ('pending', 'published'))))
            RETURNING r.dead_letter, r.state
        ), dead_letters AS (
            UPDATE t_wechat_dead_letter l
               SET state = CASE c.state WHEN 'refused' THEN 'open' WHEN 'ended' THEN 'replayed' ELSE 'replaying' END
              FROM changed c
             WHERE l.id = c.dead_letter AND l.state IN ('open', 'replaying')
        ), counts AS (
            SELECT count(*) FILTER (WHERE state <> 'refused') AS published,
                   count(*) FILTER (WHERE state = 'refused') AS refused FROM changed
        )
        UPDATE t_wechat_replay p SET published = p.published + c.published, refused = p.refused + c.refused
          FROM counts c WHERE p.id = :replay";
    let dead_letters: Vec<i64> = marks.iter().map(|mark| mark.dead_letter).collect();
    let mut client = db.durable().await?;
    let transaction = client.transaction().await.map_err(|error| query::failed(BEGIN, &error))?;
    lock(&transaction, &dead_letters).await?;
    sql!(MARK, Changes::of(marks) as i, replay, step).count(&transaction).await?;
    transaction.commit().await.map_err(|error| query::failed(COMMIT, &error))
}

const BEGIN: &str = "-- replay::begin";
const COMMIT: &str = "-- replay::commit";

/// Locks dead letters, in the order of their ids, as everybody does who brings them into a replay or out of one. A later
/// statement of the transaction sees what the holder before us has committed; the one that waits would not.
async fn lock(client: &Transaction<'_>, dead_letters: &[i64]) -> Result<(), Error> {
    const LOCK: &str = "-- replay::lock
        SELECT id FROM t_wechat_dead_letter WHERE id = ANY (:dead_letters) ORDER BY id FOR UPDATE";
    sql!(LOCK, dead_letters).count(client).await?;
    Ok(())
}

const fn state_of(what: Marked) -> &'static str {
    match what {
        Marked::Published => "published",
        Marked::Refused(_) => "refused",
        Marked::NotNamed => "ended",
    }
}

const fn refusal_of(what: Marked) -> Option<&'static str> {
    match what {
        Marked::Refused(refusal) => Some(refusal.as_str()),
        Marked::Published | Marked::NotNamed => None,
    }
}

/// What the dead letters of one step have come to by now.
pub async fn tally(db: &Database, replay: i64, step: i32) -> Result<Tally, Error> {
    const TALLY: &str = "-- replay::tally
        SELECT count(*) FILTER (WHERE outcome = 'sent') AS sent, count(*) FILTER (WHERE outcome = 'skipped') AS skipped,
               count(*) FILTER (WHERE outcome = 'dead') AS dead,
               count(*) FILTER (WHERE outcome = 'in_progress') AS in_progress
          FROM v_wechat_replay_dead_letter WHERE replay = :replay AND step = :step";
    let row = sql!(TALLY, replay, step).one(&db.durable().await?).await?;
    Ok(Tally {
        sent: row.read("sent")?,
        skipped: row.read("skipped")?,
        dead: row.read("dead")?,
        in_progress: row.read("in_progress")?,
    })
}

/// This canary step, and all before it, need no check any more.
pub async fn pass_step(db: &Database, replay: i64, step: i32) -> Result<(), Error> {
    const PASS: &str = "-- replay::pass_step
        UPDATE t_wechat_replay SET steps_passed = greatest(steps_passed, :step + 1) WHERE id = :replay";
    sql!(PASS, replay, step).count(&db.durable().await?).await?;
    Ok(())
}

/// Moves a replay to another state. False where its own state does not allow it: a finished one stays finished, and what
/// was cancelled is not paused. A cancelled replay's dead letters that had not gone out are open again.
pub async fn move_on(db: &Database, replay: i64, to: State, because: Option<&str>) -> Result<bool, Error> {
    const MOVE: &str = "-- replay::move_on
        UPDATE t_wechat_replay
           SET state = :to, stopped_because = :because,
               ended_at = CASE WHEN :to IN ('finished', 'cancelled') THEN clock_timestamp() END
         WHERE id = :replay
           AND CASE :to WHEN 'cancelled' THEN state IN ('running', 'paused', 'stopped') ELSE state = 'running' END";
    let mut client = db.durable().await?;
    let transaction = client.transaction().await.map_err(|error| query::failed(BEGIN, &error))?;
    if to == State::Cancelled {
        // Before the replay's own row, which a mark takes last.
        let pending = not_gone_out(&transaction, replay).await?;
        lock(&transaction, &pending).await?;
    }
    let moved = sql!(MOVE, replay, to = to.as_str(), because).count(&transaction).await? == 1;
    if moved && to == State::Cancelled {
        open_again(&transaction, replay).await?;
    }
    transaction.commit().await.map_err(|error| query::failed(COMMIT, &error))?;
    Ok(moved)
}

async fn not_gone_out(client: &Transaction<'_>, replay: i64) -> Result<Vec<i64>, Error> {
    const PENDING: &str = "-- replay::not_gone_out
        SELECT dead_letter FROM t_wechat_replay_dead_letter WHERE replay = :replay AND state = 'pending'";
    let rows = sql!(PENDING, replay).rows(client).await?;
    rows.iter().map(|row| row.read("dead_letter")).collect()
}

/// What is still pending now that its dead letters are locked.
async fn open_again(client: &Transaction<'_>, replay: i64) -> Result<(), Error> {
    const OPEN: &str = "-- replay::open_again
        WITH cancelled AS (
            UPDATE t_wechat_replay_dead_letter r SET state = 'cancelled', ended_at = clock_timestamp()
             WHERE r.replay = :replay AND r.state = 'pending'
            RETURNING r.dead_letter
        )
        UPDATE t_wechat_dead_letter l SET state = 'open' FROM cancelled
         WHERE l.id = cancelled.dead_letter AND l.state = 'replaying'";
    sql!(OPEN, replay).count(client).await?;
    Ok(())
}

/// Sets a replay going again. One that a canary stopped goes on past the step that stopped it: the operator has seen it.
pub async fn resume(db: &Database, replay: i64) -> Result<bool, Error> {
    const RESUME: &str = "-- replay::resume
        UPDATE t_wechat_replay
           SET steps_passed = CASE WHEN state = 'stopped'
                   THEN steps_passed + 1 ELSE steps_passed END,
               state = 'running', stopped_because = NULL
         WHERE id = :replay AND state IN ('running', 'paused', 'stopped')";
    Ok(sql!(RESUME, replay).count(&db.durable().await?).await? == 1)
}

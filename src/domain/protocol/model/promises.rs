//! What must hold, whatever happens.

use super::super::{OnUnknown, Status};
use super::world::{Scope, World};

type Promise = (&'static str, bool);

/// The first promise that `world` breaks.
pub(super) fn broken_in(world: &World, scope: &Scope) -> Option<&'static str> {
    first_broken(&always(world, scope)).or_else(|| first_broken(&when_quiet(world)))
}

/// The first promise that the step from `before` to `after` breaks.
pub(super) fn broken_by(before: &World, after: &World) -> Option<&'static str> {
    let (old, new) = (&before.row, &after.row);
    let sent_after_all = new.status == Some(Status::Sent);
    let was = |status| old.status == Some(status);
    let forgotten = after.happened.forgotten > before.happened.forgotten;
    first_broken(&[
        ("a row's epoch never falls", new.epoch >= old.epoch || forgotten),
        ("sent stays sent", !was(Status::Sent) || sent_after_all),
        ("skipped stays skipped", !was(Status::Skipped) || new.status == old.status || sent_after_all),
        (
            "a dead row is opened by a later epoch only",
            !was(Status::Dead) || new.status == old.status || sent_after_all || new.epoch > old.epoch,
        ),
    ])
}

fn always(world: &World, scope: &Scope) -> [Promise; 7] {
    let row = &world.row;
    let is = |status| row.status == Some(status);
    let nobody_can_know = world.happened.crashes + world.happened.slow + world.happened.unknown_answers;
    let parks = scope.on_unknown == OnUnknown::Park;
    [
        ("doubled ≤ unknowns", world.received <= 1 + row.unknowns),
        ("an unknown is counted only where nobody can know", row.unknowns <= nobody_can_know),
        ("park never sends twice by itself", !parks || world.received <= 1 + world.reopened),
        (
            "every unfinished row has a delivery message",
            row.is_finished() || world.delivery_messages().any(|epoch| epoch >= row.epoch),
        ),
        ("once told yes, the row says sent", !world.yes_settled || is(Status::Sent)),
        (
            "sent is written once, and only if it was",
            world.sent_written <= 1 && (!is(Status::Sent) || world.received > 0),
        ),
        ("a dead row has a dead letter of its epoch", !is(Status::Dead) || world.has_dead_letter(row.epoch)),
    ]
}

fn when_quiet(world: &World) -> [Promise; 3] {
    let row = &world.row;
    let busy = !world.is_quiet();
    let replayed_in_vain =
        row.status == Some(Status::Dead) && world.replays > 0 && world.replayed >= row.epoch;
    [
        ("when all is quiet, the row is finished", busy || row.is_finished()),
        ("a replay is attempted", busy || !replayed_in_vain),
        (
            "what was received is sent, or counted as unknown",
            busy || world.received == 0 || row.unknowns > 0 || row.status == Some(Status::Sent),
        ),
    ]
}

fn first_broken(promises: &[Promise]) -> Option<&'static str> {
    promises.iter().find(|(_, kept)| !kept).map(|(promise, _)| *promise)
}

//! From "who is named" to "who gets a delivery, who is skipped and why".

use std::collections::{BTreeMap, BTreeSet};

use super::ids::{Openid, SysUserId};
use super::outcome::SkipReason;
use super::protocol::Status;
use super::recipient::Recipient;

/// A person whom a rule, or the event itself, names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The business user they were named as, if they were.
    pub sys_user_id: Option<SysUserId>,
    /// Their openid: of the bound user's row, or as named.
    pub openid: Option<Openid>,
    /// May a message go out to them? `Err` is the reason to skip.
    pub verdict: Result<(), SkipReason>,
}

/// A ledger row that the event already has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub recipient: Recipient,
    pub status: Status,
    pub epoch: i32,
    /// Does the row carry the same data and page as the event?
    pub same_content: bool,
}

/// Recipients that an event may have and still be planned in memory; also how many of a larger event's deliveries are read
/// at a time. Higher would let a few events fill the memory; lower would send everyday events the longer way.
pub const PAGE: usize = 500;

/// How an event is spread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spread {
    /// Everybody fits one page: here is what becomes of each.
    AtOnce(Plan),
    /// For more than a page. The ledger writes the rows by itself; they are worked through page by page.
    InPages {
        /// The ledger holds the rows already: whom the rules name by now no longer matters.
        written: bool,
    },
}

/// What an event of one page becomes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Recipients to claim and attempt.
    pub deliveries: Vec<Recipient>,
    /// Recipients to record as skipped.
    pub skips: Vec<(Recipient, SkipReason)>,
    /// The ledger knows the event already: a redelivery, or a duplicate.
    pub seen_before: bool,
}

/// The same event id came before with other data or another page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reused;

/// Decides how to spread an event. `many`: more than a [`PAGE`] is named, and `named` does not hold all of it. Of the rows
/// known, one past a page is enough to read.
///
/// A set of rows larger than a page comes from one transaction, so it is whole, and fixed. A smaller one may be what a
/// crash left of a plan: who is named and has no row yet is added to it.
pub fn spread(named: Vec<Named>, many: bool, known: &[Known]) -> Result<Spread, Reused> {
    if known.iter().any(|row| !row.same_content) {
        return Err(Reused);
    }
    Ok(match (many, known.len() > PAGE) {
        (_, true) => Spread::InPages { written: true },
        (true, false) => Spread::InPages { written: false },
        (false, false) => Spread::AtOnce(plan(named, known)),
    })
}

/// Makes the plan. Each person once, however many rules name them; rows that are finished, or carried by a later message,
/// need nothing; unfinished rows of the event itself are taken up whatever the rules say by now.
fn plan(named: Vec<Named>, known: &[Known]) -> Plan {
    let mut verdicts: BTreeMap<Recipient, Result<(), SkipReason>> =
        once_each(named).into_iter().map(|person| (recipient_of(&person), person.verdict)).collect();
    if verdicts.is_empty() && known.is_empty() {
        verdicts.insert(Recipient::Nobody, Err(SkipReason::NoRecipients));
    }
    let rows: BTreeSet<String> = known.iter().map(|row| row.recipient.ledger_key()).collect();
    let fresh = verdicts.into_iter().filter(|(recipient, _)| !rows.contains(&recipient.ledger_key()));

    let mut plan = Plan { seen_before: !known.is_empty(), ..Plan::default() };
    for (recipient, verdict) in fresh {
        match verdict {
            Ok(()) => plan.deliveries.push(recipient),
            Err(reason) => plan.skips.push((recipient, reason)),
        }
    }
    plan.deliveries
        .extend(known.iter().filter(|row| is_ours_to_finish(row)).map(|row| row.recipient.clone()));
    plan
}

/// A row of a later epoch has a later message to carry it.
fn is_ours_to_finish(row: &Known) -> bool {
    !row.status.is_finished() && row.epoch == 0 && row.recipient.openid().is_some()
}

/// Two rules may name one person, once as a business user and once by openid.
fn once_each(named: Vec<Named>) -> Vec<Named> {
    let mut seen = BTreeSet::new();
    let mut people = named;
    // Those with a business user first, so that the ledger can say who it was.
    people.sort_by_key(|person| person.sys_user_id.is_none());
    people.retain(|person| seen.insert(recipient_of(person).ledger_key()));
    people
}

fn recipient_of(person: &Named) -> Recipient {
    match (&person.openid, &person.sys_user_id) {
        (Some(openid), sys_user_id) => {
            Recipient::Bound { openid: openid.clone(), sys_user_id: sys_user_id.clone() }
        }
        (None, Some(sys_user_id)) => Recipient::Unbound { sys_user_id: sys_user_id.clone() },
        (None, None) => Recipient::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(sys_user: Option<&str>, openid: Option<&str>, verdict: Result<(), SkipReason>) -> Named {
        Named {
            sys_user_id: sys_user.map(|id| id.parse().unwrap()),
            openid: openid.map(|id| id.parse().unwrap()),
            verdict,
        }
    }

    fn bound(sys_user: Option<&str>, openid: &str) -> Recipient {
        Recipient::Bound {
            openid: openid.parse().unwrap(),
            sys_user_id: sys_user.map(|id| id.parse().unwrap()),
        }
    }

    fn row(openid: &str, status: Status, epoch: i32) -> Known {
        Known { recipient: bound(None, openid), status, epoch, same_content: true }
    }

    #[test]
    fn each_person_once_however_many_rules_name_them() {
        let twice = vec![named(None, Some("o1"), Ok(())), named(Some("zhang"), Some("o1"), Ok(()))];
        assert_eq!(plan(twice, &[]).deliveries, [bound(Some("zhang"), "o1")]);
    }

    #[test]
    fn everybody_who_gets_nothing_has_a_reason() {
        let unbound = named(Some("li"), None, Err(SkipReason::NotBound));
        let people = vec![unbound, named(Some("wang"), Some("o2"), Err(SkipReason::Disabled))];
        let reasons: Vec<_> = plan(people, &[]).skips.into_iter().map(|(_, reason)| reason).collect();
        assert_eq!(reasons, [SkipReason::Disabled, SkipReason::NotBound]);
        assert_eq!(plan(vec![], &[]).skips, [(Recipient::Nobody, SkipReason::NoRecipients)]);
    }

    #[test]
    fn a_redelivery_takes_up_what_was_left_and_repeats_nothing() {
        let people = vec![named(None, Some("sent"), Ok(())), named(None, Some("new"), Ok(()))];
        let known = [
            row("sent", Status::Sent, 0),
            row("left", Status::Attempting, 0),
            row("deferred", Status::Retrying, 1),
        ];
        let plan = plan(people, &known);
        assert_eq!(plan.deliveries, [bound(None, "new"), bound(None, "left")]);
        assert!(plan.seen_before && plan.skips.is_empty());
    }

    #[test]
    fn the_same_id_with_other_content_is_no_duplicate() {
        let other = Known { same_content: false, ..row("o1", Status::Sent, 0) };
        assert_eq!(spread(vec![], false, &[other]), Err(Reused));
    }

    #[test]
    fn more_than_a_page_is_spread_in_pages_and_its_rows_fix_the_set() {
        let rows = |count| vec![row("o1", Status::Sent, 0); count];
        assert!(matches!(spread(vec![], false, &rows(PAGE)), Ok(Spread::AtOnce(_))));
        assert_eq!(spread(vec![], true, &rows(PAGE)), Ok(Spread::InPages { written: false }));
        assert_eq!(spread(vec![], false, &rows(PAGE + 1)), Ok(Spread::InPages { written: true }));
    }
}

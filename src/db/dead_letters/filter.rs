//! Which dead_letters: one filter, one `WHERE`, for everything that is done with dead letters.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::ToSql;

/// Which dead letters. Empty means all but the purged ones; each part that is given narrows.
///
/// It is kept as JSON beside what was done with it, so names here are a format: older accounts must stay readable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// Any of these; empty means any dead letter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<i64>,
    /// The spelling of `DeadReason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The class of the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company_no: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_id: Option<String>,
    /// WeChat's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errcode: Option<i64>,
    /// The field that is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// A business user or an openid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How the fingerprint begins, in lower hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Archived at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Archived before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The spelling of `dead_letter::State`; `None` means all but the purged ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// The condition on a dead letter `l`, as text for `concat!`. Its values are `$1` to `$14`, as [`Filter::values`] gives them; a
/// statement's own begin at `$15`.
///
/// Parts that are not given are constants to the planner, which sees the values: each narrowing part can use its index.
macro_rules! matching {
    () => {
        "(cardinality($1::bigint[]) = 0 OR l.id = ANY($1))
           AND ($2::text IS NULL OR l.reason = $2)
           AND ($3::text IS NULL OR l.class = $3)
           AND ($4::text IS NULL OR l.app_id = $4)
           AND ($5::text IS NULL OR l.company_no = $5)
           AND ($6::text IS NULL OR l.template_id = $6)
           AND ($7::bigint IS NULL OR l.errcode = $7)
           AND ($8::text IS NULL OR l.field = $8)
           AND ($9::text IS NULL OR l.event_id = $9)
           AND ($10::text IS NULL OR l.sys_user_id = $10 OR l.openid = $10 OR l.recipient = '@' || $10)
           AND ($11::text IS NULL OR l.fingerprint LIKE $11 || '%')
           AND ($12::timestamptz IS NULL OR l.archived_at >= $12)
           AND ($13::timestamptz IS NULL OR l.archived_at < $13)
           AND CASE WHEN $14::text IS NULL THEN l.state <> 'purged' ELSE l.state = $14 END"
    };
}
pub(in crate::db) use matching;

/// How many values [`matching!`] has.
const VALUES: usize = 14;

impl Filter {
    /// Exactly these dead letters, in whatever state but purged.
    pub fn of_ids(ids: Vec<i64>) -> Self {
        Self { ids, ..Self::default() }
    }

    /// Does it name anything that narrows? A state alone does not: nearly all dead letters are open.
    pub fn narrows(&self) -> bool {
        *self != Self { state: self.state.clone(), ..Self::default() }
    }

    /// The values of [`matching!`], in its order.
    pub(in crate::db) fn values(&self) -> [&(dyn ToSql + Sync); VALUES] {
        [
            &self.ids,
            &self.reason,
            &self.class,
            &self.app_id,
            &self.company_no,
            &self.template_id,
            &self.errcode,
            &self.field,
            &self.event_id,
            &self.user,
            &self.group,
            &self.since,
            &self.until,
            &self.state,
        ]
    }

    /// The values of [`matching!`], and those that a statement has besides, from `$15` on.
    pub(in crate::db) fn values_and<'a>(
        &'a self,
        further: &[&'a (dyn ToSql + Sync)],
    ) -> Vec<&'a (dyn ToSql + Sync)> {
        [self.values().as_slice(), further].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_kept_as_what_was_asked_for() {
        let filter = Filter {
            reason: Some("content".to_owned()),
            since: Some("2026-11-22T10:00:00Z".parse().unwrap()),
            ..Filter::default()
        };
        let kept = serde_json::to_value(&filter).unwrap();
        assert_eq!(kept, serde_json::json!({ "reason": "content", "since": "2026-11-22T10:00:00Z" }));
        assert_eq!(serde_json::from_value::<Filter>(kept).unwrap(), filter);
    }

    #[test]
    fn a_state_alone_narrows_nothing() {
        assert!(!Filter { state: Some("open".to_owned()), ..Filter::default() }.narrows());
        assert!(Filter::of_ids(vec![1]).narrows());
    }
}

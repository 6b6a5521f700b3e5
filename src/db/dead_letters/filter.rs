//! Which dead letters: one filter, one `WHERE`, for everything that is done with dead letters.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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

/// The condition on a dead letter `l`; a statement that has it is given its values by [`filtered!`].
///
/// Parts that are not given are constants to the planner, which sees the values: each narrowing part can use its index.
pub(in crate::db) const FILTER: &str = "(cardinality(:ids::bigint[]) = 0 OR l.id = ANY(:ids))
           AND (:reason::text IS NULL OR l.reason = :reason)
           AND (:class::text IS NULL OR l.class = :class)
           AND (:app_id::text IS NULL OR l.app_id = :app_id)
           AND (:company_no::text IS NULL OR l.company_no = :company_no)
           AND (:template_id::text IS NULL OR l.template_id = :template_id)
           AND (:errcode::bigint IS NULL OR l.errcode = :errcode)
           AND (:field::text IS NULL OR l.field = :field)
           AND (:event_id::text IS NULL OR l.event_id = :event_id)
           AND (:user::text IS NULL OR l.sys_user_id = :user OR l.openid = :user OR l.recipient = '@' || :user)
           AND (:group::text IS NULL OR l.fingerprint LIKE :group || '%')
           AND (:since::timestamptz IS NULL OR l.archived_at >= :since)
           AND (:until::timestamptz IS NULL OR l.archived_at < :until)
           AND CASE WHEN :state::text IS NULL THEN l.state <> 'purged' ELSE l.state = :state END";

/// A statement with [`FILTER`] in it, the filter, and the statement's further values; otherwise as `sql!`.
macro_rules! filtered {
    ($sql:expr, $filter:expr $(, $name:ident $(= $value:expr)?)* $(,)?) => {
        $crate::db::query::sql!(
            $sql,
            ids = $filter.ids,
            reason = $filter.reason,
            class = $filter.class,
            app_id = $filter.app_id,
            company_no = $filter.company_no,
            template_id = $filter.template_id,
            errcode = $filter.errcode,
            field = $filter.field,
            event_id = $filter.event_id,
            user = $filter.user,
            group = $filter.group,
            since = $filter.since,
            until = $filter.until,
            state = $filter.state,
            $($name $(= $value)?,)*
        )
    };
}
pub(in crate::db) use filtered;

impl Filter {
    /// Exactly these dead letters, in whatever state but purged.
    pub fn of_ids(ids: Vec<i64>) -> Self {
        Self { ids, ..Self::default() }
    }

    /// Does it name anything that narrows? A state alone does not: nearly all dead letters are open.
    pub fn narrows(&self) -> bool {
        *self != Self { state: self.state.clone(), ..Self::default() }
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

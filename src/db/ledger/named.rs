//! Who is named for an event, and who of them gets a message: the SQL that the plan of an everyday event and the set of a big
//! fan-out share.

use crate::domain::ids;
use crate::domain::message_kind::MessageKind;

/// Everybody whom an event `e` names, by rule or by itself, with what `t_wechat_user` says of them. Somebody who is named twice is
/// there twice. Ends in its `WHERE`, so that a reader can add what else it wants.
pub(super) const NAMED: &str = "
        SELECT coalesce(n.sys_user_id, u.sys_user_id) AS sys_user_id, coalesce(u.openid, n.openid) AS openid,
               u.openid IS NOT NULL AS bound, u.status, u.subscribe_template -> e.template_id AS consent
          FROM (SELECT p.sys_user_id, p.openid
                  FROM t_wechat_message_user r
                 CROSS JOIN LATERAL (SELECT unnest(r.sys_user_ids), NULL UNION ALL SELECT NULL, unnest(r.openids))
                    AS p (sys_user_id, openid)
                 WHERE e.by_rule AND r.company_no = e.company_no AND r.app_id = e.app_id
                   AND r.template_id = e.template_id AND r.status = 1
                   AND coalesce(r.customer_id, '') = ANY (ARRAY['', e.customer_id])
                UNION ALL
                SELECT unnest(e.sys_user_ids), NULL
                UNION ALL
                SELECT NULL, unnest(e.openids)) n
          LEFT JOIN LATERAL (
                SELECT * FROM t_wechat_user u WHERE u.app_id = e.app_id AND u.sys_user_id = n.sys_user_id
                UNION ALL
                SELECT * FROM t_wechat_user u WHERE u.app_id = e.app_id AND u.openid = n.openid) u ON true
         -- An empty cell names nobody, least of all everybody whose own cell is empty.
         WHERE (n.sys_user_id <> '' OR n.openid <> '')";

/// `MessageKind::verdict` in SQL: of a row of [`NAMED`] called `p`, the reason to skip, or NULL where a message may go out. A
/// hundred thousand consents are better judged where they are. A test compares it with the table of the kind.
pub(super) const fn verdict(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Subscribe => {
            "CASE
                    WHEN p.openid IS NULL OR NOT p.bound THEN 'not_bound'
                    WHEN p.status <> 1 THEN 'disabled'
                    WHEN p.consent ->> 'status' SIMILAR TO 'accept(With%)?' AND (p.consent -> 'remaining')::text ~ '^(0|-[0-9]{1,18})$' THEN 'quota_used'
                    WHEN p.consent ->> 'status' SIMILAR TO 'accept(With%)?' THEN NULL
                    WHEN p.consent ->> 'status' = 'reject' AND p.consent ->> 'cause' = 'refused' THEN 'rejected'
                    WHEN p.consent ->> 'status' = 'reject' AND p.consent ->> 'cause' = 'sent' THEN 'quota_used'
                    WHEN p.consent ->> 'status' = 'reject' AND p.consent ->> 'cause' = 'bad_openid' THEN 'bad_openid'
                    WHEN p.consent ->> 'status' = 'reject' THEN 'rejected'
                    WHEN p.consent ->> 'status' = 'ban' THEN 'banned'
                    WHEN true THEN 'not_subscribed' END"
        }
    }
}

/// The identifier in a column of people's own typing, or NULL: what `domain::ids` says of a text.
macro_rules! id {
    ($column:literal) => {
        concat!(
            "CASE WHEN char_length(",
            $column,
            ") BETWEEN 1 AND 128 AND ",
            $column,
            r" !~ '[\x01-\x1f\x7f-\x9f]' THEN ",
            $column,
            " END"
        )
    };
}
pub(super) use id;

const _: () = assert!(ids::MAX_CHARS == 128, "the length in `id!`");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::consent::Finding;

    #[test]
    fn the_verdict_in_sql_is_the_table() {
        for kind in MessageKind::ALL {
            assert_eq!(verdict(*kind), case_of(*kind), "{kind:?}");
        }
    }

    fn case_of(kind: MessageKind) -> String {
        let lines = kind.verdicts().iter().map(|(finding, verdict)| {
            let reason = verdict.err().map_or("NULL".to_owned(), |reason| format!("'{reason}'"));
            format!("\n                    WHEN {} THEN {reason}", fits(*finding))
        });
        format!("CASE{} END", lines.collect::<String>())
    }

    /// `Finding::fits` in SQL; of the record it reads the words that `Answer::parse` reads.
    fn fits(finding: Finding) -> String {
        const ACCEPTS: &str = "p.consent ->> 'status' SIMILAR TO 'accept(With%)?'";
        const REJECTS: &str = "p.consent ->> 'status' = 'reject'";
        match finding {
            Finding::Unbound => "p.openid IS NULL OR NOT p.bound".to_owned(),
            Finding::Disabled => "p.status <> 1".to_owned(),
            // As in Rust, only a whole number counts.
            Finding::NoneLeft => {
                format!("{ACCEPTS} AND (p.consent -> 'remaining')::text ~ '^(0|-[0-9]{{1,18}})$'")
            }
            Finding::Accepts => ACCEPTS.to_owned(),
            Finding::ClosedAs(closing) => {
                format!("{REJECTS} AND p.consent ->> 'cause' = '{}'", closing.as_str())
            }
            Finding::Rejects => REJECTS.to_owned(),
            Finding::Banned => "p.consent ->> 'status' = 'ban'".to_owned(),
            Finding::Anything => "true".to_owned(),
        }
    }
}

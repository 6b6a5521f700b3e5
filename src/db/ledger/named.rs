//! Who is named for an event, and who of them gets a message: the SQL that the plan of an everyday event and the set of a big
//! fan-out share.

use crate::domain::consent::Finding;
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

/// `MessageKind::verdict` in SQL, made from the same table: of a row of [`NAMED`] called `p`, the reason to skip, or NULL where a
/// message may go out. A hundred thousand consents are better judged where they are.
pub(super) fn verdict(kind: MessageKind) -> String {
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
        Finding::ClosedAs(closing) => format!("{REJECTS} AND p.consent ->> 'cause' = '{}'", closing.as_str()),
        Finding::Rejects => REJECTS.to_owned(),
        Finding::Banned => "p.consent ->> 'status' = 'ban'".to_owned(),
        Finding::Anything => "true".to_owned(),
    }
}

/// The identifier in a column of people's own typing, or NULL: what `domain::ids` says of a text.
pub(super) fn id(column: &str) -> String {
    let max = ids::MAX_CHARS;
    format!(
        r"CASE WHEN char_length({column}) BETWEEN 1 AND {max} AND {column} !~ '[\x01-\x1f\x7f-\x9f]' THEN {column} END"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_verdicts_becomes_a_case() {
        let sql = verdict(MessageKind::Subscribe);
        assert!(
            sql.starts_with(
                "CASE\n                    WHEN p.openid IS NULL OR NOT p.bound THEN 'not_bound'"
            )
        );
        assert!(sql.contains("THEN NULL\n"), "nobody gets a message: {sql}");
        assert!(sql.ends_with("WHEN true THEN 'not_subscribed' END"), "{sql}");
    }
}

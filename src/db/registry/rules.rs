//! Registering rules: who gets the messages of a template.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use super::WRITTEN_BY;
use crate::db::query::sql;
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::ids::{AppId, CompanyNo, CustomerId, Openid, SysUserId, TemplateId};

/// A row of `t_wechat_message_user`.
#[derive(Debug, Serialize)]
pub struct Rule {
    pub id: i64,
    pub company_no: String,
    pub app_id: String,
    pub template_id: String,
    /// Narrows the rule to events of this customer.
    pub customer_id: Option<String>,
    pub sys_user_ids: Vec<String>,
    pub openids: Vec<String>,
    pub active: bool,
    /// `None` where the writer of the row left it out.
    pub update_time: Option<Timestamp>,
}

/// A rule to add.
#[derive(Debug)]
pub struct NewRule {
    pub company_no: CompanyNo,
    pub app_id: AppId,
    pub template_id: TemplateId,
    pub customer_id: Option<CustomerId>,
    pub sys_user_ids: Vec<SysUserId>,
    pub openids: Vec<Openid>,
}

/// Which rules; an empty filter means all.
#[derive(Debug, Default)]
pub struct RuleFilter {
    pub company_no: Option<String>,
    pub app_id: Option<String>,
    pub template_id: Option<String>,
    /// Rules that name this business user or openid.
    pub user: Option<String>,
    /// Only rules after this id.
    pub after: Option<i64>,
    /// At most this many.
    pub limit: i64,
    /// And none after the rule that names the last of this many people: one rule can name a hundred thousand.
    pub people: i64,
}

/// Rules in the order of their ids.
#[derive(Debug)]
pub struct Page {
    pub rules: Vec<Rule>,
    /// There may be more after the last one.
    pub is_full: bool,
}

/// Adds a rule and returns its id. Rules may overlap: a person named twice still gets one message.
pub async fn add(db: &Database, rule: &NewRule) -> Result<i64, Error> {
    const SQL: &str = "-- registry::add_rule
        INSERT INTO t_wechat_message_user (company_no, app_id, template_id, customer_id, sys_user_ids, openids,
                                           create_by, update_by)
        VALUES (:company_no, :app_id, :template_id, :customer_id, :sys_user_ids, :openids, :written_by, :written_by)
        RETURNING id::bigint AS id";
    let row = sql!(
        SQL,
        company_no = rule.company_no.as_str(),
        app_id = rule.app_id.as_str(),
        template_id = rule.template_id.as_str(),
        customer_id = rule.customer_id.as_ref().map(CustomerId::as_str),
        sys_user_ids = rule.sys_user_ids.iter().map(SysUserId::as_str).collect::<Vec<_>>(),
        openids = rule.openids.iter().map(Openid::as_str).collect::<Vec<_>>(),
        written_by = WRITTEN_BY,
    )
    .one(&db.durable().await?)
    .await?;
    row.read("id")
}

/// A page of the rules, oldest first.
pub async fn list(db: &Database, filter: &RuleFilter) -> Result<Page, Error> {
    const SQL: &str = "-- registry::list_rules
        SELECT id, company_no, app_id, template_id, customer_id,
               array_remove(coalesce(sys_user_ids, '{}'), NULL) AS sys_user_ids,
               array_remove(coalesce(openids, '{}'), NULL) AS openids, active, update_time, found
          FROM (SELECT id::bigint AS id, company_no, app_id, template_id, customer_id, sys_user_ids, openids,
                       coalesce(status = 1, false) AS active, update_time, count(*) OVER () AS found,
                       sum(coalesce(cardinality(sys_user_ids), 0) + coalesce(cardinality(openids), 0))
                           OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS named_before
                  FROM (SELECT * FROM t_wechat_message_user
                         WHERE (:company_no::text IS NULL OR company_no = :company_no)
                           AND (:app_id::text IS NULL OR app_id = :app_id)
                           AND (:template_id::text IS NULL OR template_id = :template_id)
                           AND (:user::text IS NULL OR :user = ANY (sys_user_ids) OR :user = ANY (openids))
                           AND (:after::bigint IS NULL OR id > :after)
                         ORDER BY id
                         LIMIT :limit) rules) page
         WHERE coalesce(named_before, 0) < :people
         ORDER BY id";
    let RuleFilter { company_no, app_id, template_id, user, after, limit, people } = filter;
    let rows = sql!(SQL, company_no, app_id, template_id, user, after, limit, people)
        .rows(&db.durable().await?)
        .await?;
    let found: i64 = rows.first().map_or(Ok(0), |row| row.read("found"))?;
    let rules = rows.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
    let is_full = found == *limit || found > rules.len() as i64;
    Ok(Page { rules, is_full })
}

/// Removes a rule. False where there is none of that id.
pub async fn remove(db: &Database, id: i64) -> Result<bool, Error> {
    const SQL: &str = "-- registry::remove_rule
        DELETE FROM t_wechat_message_user WHERE id = :id::bigint";
    Ok(sql!(SQL, id).count(&db.durable().await?).await? == 1)
}

fn rule(row: &Row) -> Result<Rule, Error> {
    Ok(Rule {
        id: row.read("id")?,
        company_no: row.read("company_no")?,
        app_id: row.read("app_id")?,
        template_id: row.read("template_id")?,
        customer_id: row.read("customer_id")?,
        sys_user_ids: row.read("sys_user_ids")?,
        openids: row.read("openids")?,
        active: row.read("active")?,
        update_time: row.read("update_time")?,
    })
}

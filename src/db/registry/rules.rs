//! Registering rules: who hears of a template.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use super::WRITTEN_BY;
use crate::db::row::Read;
use crate::db::{Database, Error, query};
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
    pub update_time: Timestamp,
}

/// A rule to be.
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
    /// At most this many.
    pub limit: i64,
}

/// Adds a rule and returns its id. Rules may overlap: a person named twice still gets one message.
pub async fn add(db: &Database, rule: &NewRule) -> Result<i64, Error> {
    const SQL: &str = "-- registry::add_rule
        INSERT INTO t_wechat_message_user (company_no, app_id, template_id, customer_id, sys_user_ids, openids,
                                           create_by, update_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
        RETURNING id::bigint AS id";
    let sys_user_ids: Vec<&str> = rule.sys_user_ids.iter().map(SysUserId::as_str).collect();
    let openids: Vec<&str> = rule.openids.iter().map(Openid::as_str).collect();
    let row = query::one(
        &db.durable().await?,
        SQL,
        &[
            &rule.company_no.as_str(),
            &rule.app_id.as_str(),
            &rule.template_id.as_str(),
            &rule.customer_id.as_ref().map(CustomerId::as_str),
            &sys_user_ids,
            &openids,
            &WRITTEN_BY,
        ],
    )
    .await?;
    row.read("id")
}

/// The rules, oldest first.
pub async fn list(db: &Database, filter: &RuleFilter) -> Result<Vec<Rule>, Error> {
    const SQL: &str = "-- registry::list_rules
        SELECT id::bigint AS id, company_no, app_id, template_id, customer_id,
               array_remove(coalesce(sys_user_ids, '{}'), NULL) AS sys_user_ids,
               array_remove(coalesce(openids, '{}'), NULL) AS openids,
               status = 1 AS active, update_time
          FROM t_wechat_message_user
         WHERE ($1::text IS NULL OR company_no = $1)
           AND ($2::text IS NULL OR app_id = $2)
           AND ($3::text IS NULL OR template_id = $3)
           AND ($4::text IS NULL OR $4 = ANY (sys_user_ids) OR $4 = ANY (openids))
         ORDER BY id
         LIMIT $5";
    let rows = query::rows(
        &db.durable().await?,
        SQL,
        &[&filter.company_no, &filter.app_id, &filter.template_id, &filter.user, &filter.limit],
    )
    .await?;
    rows.iter().map(rule).collect()
}

/// Removes a rule. False where there is none of that id.
pub async fn remove(db: &Database, id: i64) -> Result<bool, Error> {
    const SQL: &str = "-- registry::remove_rule
        DELETE FROM t_wechat_message_user WHERE id = $1::bigint";
    Ok(query::count(&db.durable().await?, SQL, &[&id]).await? == 1)
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

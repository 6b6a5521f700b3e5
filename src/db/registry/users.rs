//! Binding WeChat users to business users, and what they consented to.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;

use super::WRITTEN_BY;
use crate::db::query::{columns, sql};
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::consent::{Answer, Consent};
use crate::domain::ids::{AppId, Openid, SysUserId, TemplateId};

/// A row of `t_wechat_user`, without its session key.
#[derive(Debug, Clone, Serialize)]
pub struct User {
    pub app_id: String,
    pub openid: String,
    pub sys_user_id: Option<String>,
    pub username: Option<String>,
    /// The stored record of consents, by template.
    pub subscribe_template: Value,
    pub active: bool,
    /// `None` where the writer of the row left it out.
    pub update_time: Option<Timestamp>,
}

impl User {
    /// What the user said to a template.
    pub fn consent(&self, template_id: &str) -> Consent {
        let record = self.subscribe_template.get(template_id);
        let field = |name| record.and_then(|record| record.get(name));
        Consent {
            answer: Answer::parse(
                field("status").and_then(Value::as_str),
                field("cause").and_then(Value::as_str),
            ),
            remaining: field("remaining").and_then(Value::as_i64),
        }
    }
}

/// A binding to write; in an existing row omitted values are kept.
#[derive(Debug)]
pub struct Binding {
    pub app_id: AppId,
    pub openid: Openid,
    pub sys_user_id: Option<SysUserId>,
    pub username: Option<String>,
    pub consents: Vec<NewConsent>,
}

/// What a user says to a template.
#[derive(Debug, Clone)]
pub struct NewConsent {
    pub template_id: TemplateId,
    pub accepts: bool,
    /// Sends allowed; `None` where they are not counted (long-term template).
    pub remaining: Option<i64>,
}

columns! {
    /// What a user says to each template.
    struct Consents<'a>(consent: &'a NewConsent) {
        template_id: &'a str = consent.template_id.as_str(),
        answer: &'static str = if consent.accepts { "accept" } else { "reject" },
        remaining: Option<i64> = consent.remaining,
    }
}

/// Binds a user, or changes an existing row; switches it on. True where the row is new.
pub async fn bind(db: &Database, binding: &Binding) -> Result<bool, Error> {
    const SQL: &str = "-- registry::bind_user
        INSERT INTO t_wechat_user AS u (app_id, openid, sys_user_id, username, subscribe_template, create_by, update_by)
        SELECT :app_id, :openid, :sys_user_id, :username, given.consents, :written_by, :written_by
          FROM (SELECT coalesce(jsonb_object_agg(c.template_id, jsonb_build_object(
                           'status', c.answer, 'remaining', c.remaining, 'updated_at', now())), '{}') AS consents
                  FROM :c) AS given
        ON CONFLICT (app_id, openid) DO UPDATE
           SET sys_user_id = coalesce(excluded.sys_user_id, u.sys_user_id),
               username    = coalesce(excluded.username, u.username),
               subscribe_template =
                   CASE jsonb_typeof(u.subscribe_template) WHEN 'object' THEN u.subscribe_template ELSE '{}' END
                   || excluded.subscribe_template,
               status = 1, update_by = excluded.update_by, update_time = now()
        RETURNING u.xmax = 0 AS is_new";
    let row = sql!(
        SQL,
        Consents::of(&binding.consents) as c,
        app_id = binding.app_id.as_str(),
        openid = binding.openid.as_str(),
        sys_user_id = binding.sys_user_id.as_ref().map(SysUserId::as_str),
        username = binding.username,
        written_by = WRITTEN_BY,
    )
    .one(&db.durable().await?)
    .await?;
    row.read("is_new")
}

/// The rows of one person, named by business user or openid; of one app or of all.
pub async fn find(db: &Database, app_id: Option<&str>, user: &str) -> Result<Vec<User>, Error> {
    const SQL: &str = "-- registry::find_users
        SELECT app_id, openid, sys_user_id, username, coalesce(subscribe_template, '{}') AS subscribe_template,
               coalesce(status = 1, false) AS active, update_time
          FROM t_wechat_user
         WHERE (:app_id::text IS NULL OR app_id = :app_id) AND (openid = :user OR sys_user_id = :user)
         ORDER BY app_id, openid
         LIMIT 1000";
    let rows = sql!(SQL, app_id, user).rows(&db.durable().await?).await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<User, Error> {
    Ok(User {
        app_id: row.read("app_id")?,
        openid: row.read("openid")?,
        sys_user_id: row.read("sys_user_id")?,
        username: row.read("username")?,
        subscribe_template: row.read("subscribe_template")?,
        active: row.read("active")?,
        update_time: row.read("update_time")?,
    })
}

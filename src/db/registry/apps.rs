//! Registering mini programs.

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tokio_postgres::Row;

use super::WRITTEN_BY;
use crate::db::query::sql;
use crate::db::registry::secrets::SecretColumn;
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::ids::AppId;
use crate::sealing::SEALED;

/// A mini program as shown to operators: without its secret and its token.
#[derive(Debug, Serialize)]
pub struct App {
    pub app_id: String,
    pub app_name: Option<String>,
    /// The only company that may use it; `None` lets any.
    pub company_no: Option<String>,
    /// `stable` or `classic`.
    pub token_api: String,
    pub miniprogram_state: String,
    pub lang: String,
    pub rate_per_second: Option<i32>,
    pub daily_quota: Option<i64>,
    /// Today's requests, by Beijing's clock, including the reservations of running processes; `None` where none was counted.
    pub quota_used: Option<i64>,
    pub has_secret: bool,
    /// Its secret is stored sealed.
    pub secret_sealed: bool,
    pub active: bool,
    /// `None` where the writer of the row left it out.
    pub update_time: Option<Timestamp>,
}

/// What to write into an app's row. `None` keeps a column's value (on adding: its default); an empty text or a zero
/// removes a limit or an owner.
#[derive(Debug, Default)]
pub struct AppChanges {
    pub app_name: Option<String>,
    pub app_secret: Option<SecretString>,
    pub company_no: Option<String>,
    pub token_api: Option<String>,
    pub miniprogram_state: Option<String>,
    pub lang: Option<String>,
    pub rate_per_second: Option<i32>,
    pub daily_quota: Option<i64>,
    pub active: Option<bool>,
}

impl AppChanges {
    /// The secret in the form in which the app's row stores it.
    fn stored_secret(&self, db: &Database, app_id: &AppId) -> Option<SecretString> {
        self.app_secret.as_ref().map(|plain| SecretColumn::AppSecret.write(db.sealer(), app_id, plain))
    }
}

/// Registers an app. False where one of that id exists; it is not changed.
pub async fn add(db: &Database, app_id: &AppId, new: &AppChanges) -> Result<bool, Error> {
    const SQL: &str = "-- registry::add_app
        INSERT INTO t_wechat_app (app_id, app_name, app_secret, company_no, token_api, miniprogram_state, lang,
                                  rate_per_second, daily_quota, status, create_by, update_by)
        VALUES (:app_id, :app_name, :app_secret, nullif(:company_no, ''), coalesce(:token_api, 'stable'),
                coalesce(:miniprogram_state, 'formal'), coalesce(:lang, 'zh_CN'), nullif(:rate_per_second::integer, 0),
                nullif(:daily_quota::bigint, 0), CASE WHEN :active::boolean THEN 1 ELSE 0 END, :written_by, :written_by)
        ON CONFLICT (app_id) DO NOTHING";
    let secret = new.stored_secret(db, app_id);
    let added = sql!(
        SQL,
        app_id = app_id.as_str(),
        app_name = new.app_name,
        app_secret = secret.as_ref().map(ExposeSecret::expose_secret),
        company_no = new.company_no,
        token_api = new.token_api,
        miniprogram_state = new.miniprogram_state,
        lang = new.lang,
        rate_per_second = new.rate_per_second,
        daily_quota = new.daily_quota,
        active = new.active.unwrap_or(true),
        written_by = WRITTEN_BY,
    )
    .count(&db.durable().await?)
    .await?;
    Ok(added == 1)
}

/// Changes an app. False where there is none of that id. A running daemon notices by itself.
pub async fn set(db: &Database, app_id: &AppId, changes: &AppChanges) -> Result<bool, Error> {
    const SQL: &str = "-- registry::set_app
        UPDATE t_wechat_app
           SET app_name          = coalesce(:app_name, app_name),
               app_secret        = coalesce(:app_secret, app_secret),
               company_no        = nullif(coalesce(:company_no, company_no), ''),
               token_api         = coalesce(:token_api, token_api),
               miniprogram_state = coalesce(:miniprogram_state, miniprogram_state),
               lang              = coalesce(:lang, lang),
               rate_per_second   = nullif(coalesce(:rate_per_second, rate_per_second), 0),
               daily_quota       = nullif(coalesce(:daily_quota, daily_quota), 0),
               status            = CASE :active::boolean WHEN true THEN 1 WHEN false THEN 0 ELSE status END,
               update_by = :written_by, update_time = now()
         WHERE app_id = :app_id";
    let secret = changes.stored_secret(db, app_id);
    let changed = sql!(
        SQL,
        app_id = app_id.as_str(),
        app_name = changes.app_name,
        app_secret = secret.as_ref().map(ExposeSecret::expose_secret),
        company_no = changes.company_no,
        token_api = changes.token_api,
        miniprogram_state = changes.miniprogram_state,
        lang = changes.lang,
        rate_per_second = changes.rate_per_second,
        daily_quota = changes.daily_quota,
        active = changes.active,
        written_by = WRITTEN_BY,
    )
    .count(&db.durable().await?)
    .await?;
    Ok(changed == 1)
}

/// All apps, by id. There are dozens at most; each costs the daemon a lane and a token.
pub async fn list(db: &Database) -> Result<Vec<App>, Error> {
    const SQL: &str = "-- registry::list_apps
        SELECT app_id, app_name, company_no, token_api, miniprogram_state, lang, rate_per_second, daily_quota,
               (SELECT used FROM t_wechat_quota q
                 WHERE q.app_id = a.app_id AND q.day = (now() AT TIME ZONE 'Asia/Shanghai')::date) AS quota_used,
               coalesce(app_secret, '') <> '' AS has_secret,
               coalesce(starts_with(app_secret, :sealed), false) AS secret_sealed,
               coalesce(status = 1, false) AS active, update_time
          FROM t_wechat_app a
         ORDER BY app_id
         LIMIT 10000";
    let rows = sql!(SQL, sealed = SEALED).rows(&db.durable().await?).await?;
    rows.iter().map(app).collect()
}

fn app(row: &Row) -> Result<App, Error> {
    Ok(App {
        app_id: row.read("app_id")?,
        app_name: row.read("app_name")?,
        company_no: row.read("company_no")?,
        token_api: row.read("token_api")?,
        miniprogram_state: row.read("miniprogram_state")?,
        lang: row.read("lang")?,
        rate_per_second: row.read("rate_per_second")?,
        daily_quota: row.read("daily_quota")?,
        quota_used: row.read("quota_used")?,
        has_secret: row.read("has_secret")?,
        secret_sealed: row.read("secret_sealed")?,
        active: row.read("active")?,
        update_time: row.read("update_time")?,
    })
}

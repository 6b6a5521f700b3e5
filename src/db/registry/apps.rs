//! The mini programs of `t_wechat_app`: as the daemon reads them, with the token that each has stored, and as operators
//! register, change and list them.

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tokio_postgres::Row;

use super::WRITTEN_BY;
use super::secrets::SecretColumn;
pub use super::stored_token::StoredToken;
use super::stored_token::read_token;
use crate::db::query::sql;
use crate::db::row::Read;
use crate::db::{Database, Error};
use crate::domain::app::TokenApi;
use crate::domain::ids::{AppId, CompanyNo};
use crate::sealing::{OpenError, SEALED, Sealer};

/// What an operator sets about a mini program.
#[derive(Debug, Clone)]
pub struct App {
    pub app_id: AppId,
    pub app_name: Option<String>,
    /// The only company whose events may use the app; `None` = any company.
    pub company_no: Option<CompanyNo>,
    /// Or why it cannot be opened: then this app waits, and no other.
    pub secret: Result<SecretString, OpenError>,
    pub token_api: TokenApi,
    /// For events that name none: `formal`, `trial` or `developer`.
    pub miniprogram_state: String,
    /// For events that name none.
    pub lang: String,
    /// Requests per second over all processes; `None` = no limit of ours.
    pub rate_per_second: Option<u32>,
    /// Requests per day; `None` = no limit of ours.
    pub daily_quota: Option<u64>,
    /// An inactive app is not sent to; its deliveries are skipped as `app_disabled`.
    pub active: bool,
}

/// One row: the app and its stored token.
#[derive(Debug, Clone)]
pub struct AppRow {
    pub app: App,
    /// Counts the tokens stored in this row; all processes compare it.
    pub token_version: i64,
    /// `None` = none was stored, or it has expired by the database's clock.
    pub token: Option<StoredToken>,
}

impl App {
    /// Would WeChat's answer to a request for a token be another one now?
    pub fn asks_differently_than(&self, other: &Self) -> bool {
        self.token_api != other.token_api
            || self.active != other.active
            || exposed(&self.secret) != exposed(&other.secret)
    }
}

fn exposed(secret: &Result<SecretString, OpenError>) -> Result<&str, &OpenError> {
    secret.as_ref().map(ExposeSecret::expose_secret)
}

impl PartialEq for App {
    fn eq(&self, other: &Self) -> bool {
        !self.asks_differently_than(other)
            && self.app_id == other.app_id
            && self.app_name == other.app_name
            && self.company_no == other.company_no
            && self.miniprogram_state == other.miniprogram_state
            && self.lang == other.lang
            && self.rate_per_second == other.rate_per_second
            && self.daily_quota == other.daily_quota
    }
}

macro_rules! select_app {
    ($name:literal, $where:literal) => {
        concat!(
            "-- ",
            $name,
            "
SELECT app_id, app_name, company_no, app_secret, token_api, miniprogram_state, lang, rate_per_second, daily_quota,
       coalesce(status = 1, false) AS active, token_version, access_token,
       -- Business systems write this table: an infinite or absurd time must spoil no query.
       CASE WHEN token_exp_time < now() + interval '1 day' AND isfinite(token_exp_time)
            THEN extract(epoch FROM token_exp_time - now())::float8 END AS expires_in_s
  FROM t_wechat_app",
            $where
        )
    };
}

/// Every app. Rows that cannot be read are left out: one bad row must not hide the others; [`one`] says what is wrong.
pub async fn all(db: &Database) -> Result<Vec<AppRow>, Error> {
    const SQL: &str = select_app!("apps::all", "");
    let rows = sql!(SQL).rows(&db.durable().await?).await?;
    Ok(rows.iter().filter_map(|row| read(row, db.sealer()).ok()).collect())
}

/// One app, or `None` when there is no such row.
pub async fn one(db: &Database, app_id: &AppId) -> Result<Option<AppRow>, Error> {
    const SQL: &str = select_app!("apps::one", " WHERE app_id = :app_id");
    let row = sql!(SQL, app_id = app_id.as_str()).optional(&db.durable().await?).await?;
    row.as_ref().map(|row| read(row, db.sealer())).transpose()
}

fn read(row: &Row, sealer: &Sealer) -> Result<AppRow, Error> {
    let app = read_app(row, sealer)?;
    let token = read_token(row, &app.app_id, sealer)?;
    Ok(AppRow { app, token_version: row.read("token_version")?, token })
}

fn read_app(row: &Row, sealer: &Sealer) -> Result<App, Error> {
    let app_id: String = row.read("app_id")?;
    let app_id = AppId::parse(&app_id).map_err(|error| unreadable(format!("app_id {error}")))?;
    let company_no: Option<String> = row.read("company_no")?;
    let token_api: String = row.read("token_api")?;
    let rate_per_second: Option<i32> = row.read("rate_per_second")?;
    let daily_quota: Option<i64> = row.read("daily_quota")?;
    Ok(App {
        app_name: row.read("app_name")?,
        company_no: company_no
            .filter(|text| !text.is_empty())
            .map(|text| CompanyNo::parse(&text))
            .transpose()
            // Never "any company": that would open the app to everybody.
            .map_err(|error| unreadable(format!("company_no {error}")))?,
        secret: SecretColumn::AppSecret.read(
            sealer,
            &app_id,
            row.read::<Option<String>>("app_secret")?.unwrap_or_default(),
        ),
        app_id,
        token_api: TokenApi::parse(&token_api),
        miniprogram_state: row.read("miniprogram_state")?,
        lang: row.read("lang")?,
        // Zero or less cannot be meant as a limit: no limit.
        rate_per_second: rate_per_second.and_then(|rate| u32::try_from(rate).ok()).filter(|rate| *rate > 0),
        daily_quota: daily_quota.and_then(|quota| u64::try_from(quota).ok()).filter(|quota| *quota > 0),
        active: row.read("active")?,
    })
}

fn unreadable(what: String) -> Error {
    Error::Unreadable { table: "t_wechat_app", what }
}

/// A mini program as shown to operators: without its secret and its token.
#[derive(Debug, Serialize)]
pub struct AppListing {
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
pub async fn list(db: &Database) -> Result<Vec<AppListing>, Error> {
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
    rows.iter().map(listing).collect()
}

fn listing(row: &Row) -> Result<AppListing, Error> {
    Ok(AppListing {
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

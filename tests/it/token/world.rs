//! A small world for the refresher: a token endpoint that does as it is told, a schema with one app, processes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{Query, State};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use wechat_notifier::config;
use wechat_notifier::db::listen::Listener;
use wechat_notifier::domain::ids::AppId;
use wechat_notifier::lifecycle::Tasks;
use wechat_notifier::token::{
    AppState, Lookup, RefreshResult, Refresher, Surroundings, Timing, TokenCache, TokenState,
};
use wechat_notifier::wechat::Client;

use crate::scratch::Scratch;

/// What a healthy machine does in milliseconds, a busy one does within this.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// The secret that the endpoint accepts.
pub const SECRET: &str = "right";
pub const APP: &str = "wxtoken";

/// What the token endpoint says next.
#[derive(Debug, Clone)]
pub enum Says {
    /// Another token at each call.
    Fresh,
    /// The same token at each call.
    Same(&'static str),
    Refusal(i64),
}

/// WeChat's token endpoints.
pub struct FakeWeChat {
    pub says: Says,
    pub expires_in_s: u64,
    pub stable_calls: u32,
    pub classic_calls: u32,
    /// Tokens handed out, by value.
    pub given: HashSet<String>,
}

/// One schema, one app, one WeChat.
pub struct World {
    pub scratch: Scratch,
    pub sql: tokio_postgres::Client,
    wechat: Arc<Mutex<FakeWeChat>>,
    api_base: String,
}

/// One daemon's refresher.
pub struct Process {
    pub book: TokenCache,
    pub results: Arc<Mutex<Vec<RefreshResult>>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    pub async fn new(token_api: &str, secret: &str) -> Self {
        let scratch = Scratch::new().await;
        let sql = scratch.client().await;
        create_tables(&sql).await;
        sql.execute(
            "INSERT INTO t_wechat_app (app_id, app_secret, token_api) VALUES ($1, $2, $3)",
            &[&APP, &secret, &token_api],
        )
        .await
        .unwrap();
        let wechat = Arc::new(Mutex::new(FakeWeChat {
            says: Says::Fresh,
            expires_in_s: 7_200,
            stable_calls: 0,
            classic_calls: 0,
            given: HashSet::new(),
        }));
        let api_base = serve(wechat.clone()).await;
        Self { scratch, sql, wechat, api_base }
    }

    pub fn wechat(&self) -> MutexGuard<'_, FakeWeChat> {
        self.wechat.lock().unwrap()
    }

    pub fn fetches(&self) -> u32 {
        let wechat = self.wechat();
        wechat.stable_calls + wechat.classic_calls
    }

    /// Starts a process with times that suit a test.
    pub fn start(&self) -> Process {
        self.start_with(Timing {
            poll: Duration::from_millis(200),
            peek: Duration::from_millis(50),
            ..Timing::default()
        })
    }

    pub fn start_with(&self, timing: Timing) -> Process {
        let database = config::Database {
            url: self.scratch.url().into(),
            migrate_on_start: false,
            pool_size: 4,
            ca_file: None,
        };
        let api = config::WeChat { api_base: self.api_base.clone(), request_timeout: Duration::from_secs(5) };
        let results = Arc::new(Mutex::new(Vec::new()));
        let seen = results.clone();
        let stop = CancellationToken::new();
        let (book, task) = Refresher::start(
            self.scratch.database(),
            Listener::new(&database).unwrap(),
            Client::new(&api, 4).unwrap(),
            timing,
            Arc::new(move |_: &AppId, result| seen.lock().unwrap().push(result)),
            Surroundings { tasks: Tasks::default(), stop: stop.clone() },
        );
        Process { book, results, stop, task }
    }

    /// Changes the app's row, without telling anybody.
    pub async fn set(&self, assignment: &str) {
        let sql = format!("UPDATE t_wechat_app SET {assignment} WHERE app_id = $1");
        assert_eq!(self.sql.execute(&sql, &[&APP]).await.unwrap(), 1);
    }

    /// The daemons' queries fail from here on, as they do without a database.
    pub async fn rename_table(&self, from: &str, to: &str) {
        self.sql.execute(&format!("ALTER TABLE {from} RENAME TO {to}"), &[]).await.unwrap();
    }

    pub async fn stored_version(&self) -> i64 {
        let row =
            self.sql.query_one("SELECT token_version FROM t_wechat_app WHERE app_id = $1", &[&APP]).await;
        row.unwrap().get(0)
    }
}

impl Process {
    /// Waits for the app's state to be as described.
    pub async fn sees(&self, what: &str, is: impl Fn(&AppState) -> bool) -> AppState {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(Lookup::Known(tracked)) = self.book.app(&app()).await {
                let state = tracked.borrow().clone();
                if is(&state) {
                    return state;
                }
                assert!(Instant::now() < deadline, "never saw {what}; the last was {state:?}");
            }
            assert!(Instant::now() < deadline, "never saw {what}, nor the app");
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn sees_generation(&self, generation: i64) -> AppState {
        self.sees(&format!("generation {generation}"), |state| state.generation() == Some(generation)).await
    }

    pub async fn sees_fault(&self, code: i64) -> AppState {
        self.sees(
            &format!("fault {code}"),
            |state| matches!(state.token, TokenState::Faulty { errcode, .. } if errcode == code),
        )
        .await
    }

    /// Many senders complain at once, as they do when a token dies under load.
    pub async fn storm_against(&self, generation: i64) {
        let complaints = (0..200).map(|_| {
            let book = self.book.clone();
            tokio::spawn(async move { book.report_rejected(&app(), generation).await })
        });
        for complaint in complaints.collect::<Vec<_>>() {
            complaint.await.unwrap();
        }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

pub fn app() -> AppId {
    AppId::parse(APP).unwrap()
}

/// Waits until something becomes true.
pub async fn eventually(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is().await {
        assert!(Instant::now() < deadline, "never came true: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a migration is text")]
async fn create_tables(sql: &tokio_postgres::Client) {
    sql.batch_execute(include_str!("../../../migrations/0001_tables.sql")).await.unwrap();
}

async fn serve(wechat: Arc<Mutex<FakeWeChat>>) -> String {
    let routes = Router::new()
        .route("/cgi-bin/stable_token", post(stable))
        .route("/cgi-bin/token", get(classic))
        .with_state(wechat);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    format!("http://{address}")
}

#[derive(Deserialize)]
struct Asked {
    appid: String,
    secret: String,
    force_refresh: Option<bool>,
}

async fn stable(State(wechat): State<Arc<Mutex<FakeWeChat>>>, Json(asked): Json<Asked>) -> Json<Value> {
    assert_eq!(asked.force_refresh, Some(false), "a forced refresh kills everybody else's token");
    let mut wechat = wechat.lock().unwrap();
    wechat.stable_calls += 1;
    Json(wechat.answer(&asked))
}

async fn classic(State(wechat): State<Arc<Mutex<FakeWeChat>>>, Query(asked): Query<Asked>) -> Json<Value> {
    let mut wechat = wechat.lock().unwrap();
    wechat.classic_calls += 1;
    Json(wechat.answer(&asked))
}

impl FakeWeChat {
    fn answer(&mut self, asked: &Asked) -> Value {
        assert_eq!(asked.appid, APP);
        let value = match &self.says {
            _ if asked.secret != SECRET => {
                return json!({"errcode": 40125, "errmsg": "invalid appsecret rid: 1-2"});
            }
            Says::Refusal(errcode) => return json!({"errcode": errcode, "errmsg": "no"}),
            Says::Same(value) => (*value).to_owned(),
            Says::Fresh => format!("token-{}", self.given.len() + 1),
        };
        self.given.insert(value.clone());
        json!({"access_token": value, "expires_in": self.expires_in_s})
    }
}

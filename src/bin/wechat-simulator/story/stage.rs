//! What the stories are told with: a running simulator and the verbs of its clients.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::routes;
use crate::world::Scenario;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running simulator and a client for it.
pub struct Story {
    pub base: String,
    pub client: Client,
}

impl Story {
    pub async fn begin(scenario: Value) -> Self {
        static PROVIDER: OnceLock<()> = OnceLock::new();
        PROVIDER.get_or_init(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let scenario: Scenario = serde_json::from_value(scenario).unwrap();
        tokio::spawn(routes::serve(listener, scenario));
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { base, client }
    }

    pub async fn tell(&self, path: &str, body: Value) -> Value {
        let response =
            self.client.post(format!("{}/_sim/{path}", self.base)).json(&body).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }

    pub async fn ask(&self, path: &str) -> Value {
        let url = format!("{}/_sim/{path}", self.base);
        self.client.get(url).send().await.unwrap().json().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Value {
        self.client.get(format!("{}{path}", self.base)).send().await.unwrap().json().await.unwrap()
    }

    pub async fn stable(&self, appid: &str, secret: &str) -> Value {
        let body = json!({ "grant_type": "client_credential", "appid": appid, "secret": secret });
        let url = format!("{}/cgi-bin/stable_token", self.base);
        self.client.post(url).json(&body).send().await.unwrap().json().await.unwrap()
    }

    pub async fn token(&self) -> String {
        self.stable("wxA", "any").await["access_token"].as_str().unwrap().to_owned()
    }

    pub async fn try_send(&self, token: &str, openid: &str, event: &str) -> reqwest::Result<Response> {
        let body = json!({
            "touser": openid, "template_id": "T1", "page": format!("p?id={event}"),
            "data": { "thing1": { "value": "广州" } },
        });
        let url = format!("{}/cgi-bin/message/subscribe/send?access_token={token}", self.base);
        self.client.post(url).json(&body).send().await
    }

    pub async fn send(&self, token: &str, openid: &str, event: &str) -> Value {
        self.try_send(token, openid, event).await.unwrap().json().await.unwrap()
    }

    pub async fn errcode(&self, token: &str, openid: &str, event: &str) -> i64 {
        self.send(token, openid, event).await["errcode"].as_i64().unwrap()
    }

    pub async fn raw(&self, method: Method, body: &'static str) -> i64 {
        let url = format!("{}/cgi-bin/message/subscribe/send?access_token={}", self.base, self.token().await);
        let answer = self.client.request(method, url).body(body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json::<Value>().await.unwrap()["errcode"].as_i64().unwrap()
    }

    pub async fn got(&self, openid: &str) -> u64 {
        self.ask(&format!("sent?openid={openid}")).await["total"].as_u64().unwrap()
    }

    /// Asks until the answer is right; fails when it never is.
    pub async fn until(&self, question: &str, right: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(question).await;
            if right(&answer) {
                return;
            }
            assert!(Instant::now() < deadline, "{question} still says {answer}");
            tokio::task::yield_now().await;
        }
    }
}

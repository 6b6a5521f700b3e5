//! `GET /cgi-bin/token` and `POST /cgi-bin/stable_token` (docs/WECHAT.md#the-two-token-endpoints).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::Method;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::request;
use crate::errcode::{INVALID_GRANT_TYPE, Refusal};
use crate::serving::{Call, Peer, Simulator, Verdict};
use crate::tokens::{Kind, TokenIndex};
use crate::traffic::{Endpoint, Subject};
use crate::world::World;

/// Answers the classic interface.
pub async fn token(
    State(simulator): State<Arc<Simulator>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Query(credentials): Query<Credentials>,
) -> Response {
    simulator.serve(peer, Fetch { kind: Kind::Classic, credentials: Ok(credentials) }).await
}

/// Answers the stable interface.
pub async fn stable_token(
    State(simulator): State<Arc<Simulator>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    method: Method,
    body: Bytes,
) -> Response {
    simulator
        .serve(peer, Fetch { kind: Kind::Stable, credentials: request::posted_json(&method, &body) })
        .await
}

/// What both interfaces ask for.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Credentials {
    grant_type: String,
    appid: String,
    secret: String,
    /// The stable interface only.
    force_refresh: bool,
}

/// A fetch of a token.
struct Fetch {
    kind: Kind,
    credentials: Result<Credentials, Refusal>,
}

impl Fetch {
    fn forced(&self) -> bool {
        self.kind == Kind::Stable && self.credentials.as_ref().is_ok_and(|it| it.force_refresh)
    }
}

impl Call for Fetch {
    fn endpoint(&self) -> Endpoint {
        match self.kind {
            Kind::Classic => Endpoint::ClassicToken,
            Kind::Stable if self.forced() => Endpoint::ForcedToken,
            Kind::Stable => Endpoint::StableToken,
        }
    }

    fn subject<'a>(&'a self, _tokens: &'a TokenIndex) -> Subject<'a> {
        let appid = self.credentials.as_ref().ok().map(|credentials| credentials.appid.as_str());
        Subject { path: self.endpoint().path(), appid, ..Subject::default() }
    }

    fn process(&self, world: &mut World, now_ms: u64) -> Verdict {
        let asked = self.credentials.as_ref().map_err(Clone::clone)?;
        if asked.grant_type != "client_credential" {
            return Err(Refusal::of(INVALID_GRANT_TYPE));
        }
        let mut rng = world.rng.fork();
        let app = world.authenticate(&asked.appid, &asked.secret)?;
        let lifetime = app.token_lifetime();
        let issuer = app.issuer_mut(self.kind);
        let fetched = match self.kind {
            Kind::Classic => issuer.fetch_classic(now_ms, lifetime, &mut rng),
            Kind::Stable if asked.force_refresh => issuer.fetch_forced(now_ms, lifetime, &mut rng)?,
            Kind::Stable => issuer.fetch_stable(now_ms, lifetime, &mut rng),
        };
        world.tokens.add(&fetched.token, &asked.appid, self.kind, fetched.forgotten.as_deref());
        Ok(json!({ "access_token": fetched.token, "expires_in": fetched.expires_in_seconds }).to_string())
    }
}

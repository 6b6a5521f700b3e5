//! `GET /sns/jscode2session` (docs/WECHAT.md#login).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Query, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use crate::errcode::{CODE_MISSING, INVALID_CODE, INVALID_GRANT_TYPE, Refusal};
use crate::serving::{Call, Peer, Simulator, Verdict};
use crate::tokens::TokenIndex;
use crate::traffic::{Endpoint, Subject};
use crate::world::{LoginCode, World};

/// Answers a login.
pub async fn jscode2session(
    State(simulator): State<Arc<Simulator>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Query(login): Query<Login>,
) -> Response {
    simulator.serve(peer, login).await
}

/// The query of a login.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Login {
    appid: String,
    secret: String,
    js_code: String,
    grant_type: String,
}

impl Call for Login {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Login
    }

    fn subject<'a>(&'a self, _tokens: &'a TokenIndex) -> Subject<'a> {
        Subject { path: Endpoint::Login.path(), appid: Some(&self.appid), ..Subject::default() }
    }

    /// Success carries no errcode, although the official sample shows one.
    fn process(&self, world: &mut World, _now_ms: u64) -> Verdict {
        if self.grant_type != "authorization_code" {
            return Err(Refusal::of(INVALID_GRANT_TYPE));
        }
        let strict = world.authenticate(&self.appid, &self.secret)?.settings.strict_openids;
        let code = self.redeem(world, strict)?;
        world.user(&self.appid, &code.openid).known = true;
        let session_key: [u8; 16] = std::array::from_fn(|_| world.rng.u8(..));
        let mut body = json!({ "session_key": STANDARD.encode(session_key), "openid": code.openid });
        if let Some(unionid) = code.unionid {
            body["unionid"] = unionid.into();
        }
        Ok(body.to_string())
    }
}

impl Login {
    /// Uses up the code. Where codes are not strict, an unknown one is somebody new.
    fn redeem(&self, world: &mut World, strict: bool) -> Result<LoginCode, Refusal> {
        if self.js_code.is_empty() {
            return Err(Refusal::of(CODE_MISSING));
        }
        if strict && !world.codes.contains_key(&self.js_code) {
            return Err(Refusal::of(INVALID_CODE));
        }
        let code = world.codes.entry(self.js_code.clone()).or_insert_with(|| self.somebody_new());
        code.redeem(&self.appid)?;
        Ok(code.clone())
    }

    /// An openid of the usual look, the same for the same app and code.
    fn somebody_new(&self) -> LoginCode {
        let mut hasher = DefaultHasher::new();
        (&self.appid, &self.js_code).hash(&mut hasher);
        let openid = format!("oSim{:024x}", hasher.finish());
        LoginCode::new(self.js_code.clone(), openid)
    }
}

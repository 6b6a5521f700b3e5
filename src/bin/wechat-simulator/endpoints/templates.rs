//! `GET /wxaapi/newtmpl/gettemplate` (docs/WECHAT.md#templates).

use std::sync::Arc;

use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::Method;
use axum::response::Response;
use serde_json::{Value, json};

use super::request;
use crate::errcode::{Refusal, WRONG_VERB_FOR_TEMPLATES};
use crate::serving::{Call, Peer, Simulator, Verdict};
use crate::templates::Template;
use crate::tokens::TokenIndex;
use crate::traffic::{Endpoint, Subject};
use crate::world::World;

/// Answers with the templates of the token's app.
pub async fn gettemplate(
    State(simulator): State<Arc<Simulator>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    method: Method,
    RawQuery(query): RawQuery,
) -> Response {
    let token = request::access_token(query.as_deref());
    simulator.serve(peer, ListTemplates { token, verb_fits: method == Method::GET }).await
}

struct ListTemplates {
    token: String,
    verb_fits: bool,
}

impl Call for ListTemplates {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Templates
    }

    fn subject<'a>(&'a self, tokens: &'a TokenIndex) -> Subject<'a> {
        Subject {
            path: Endpoint::Templates.path(),
            appid: tokens.appid_of(&self.token),
            ..Subject::default()
        }
    }

    fn process(&self, world: &mut World, now_ms: u64) -> Verdict {
        if !self.verb_fits {
            return Err(Refusal::of(WRONG_VERB_FOR_TEMPLATES));
        }
        let app = world.app_by_token(&self.token, now_ms)?;
        let listed: Vec<Value> = app.settings.templates.iter().map(Template::listed).collect();
        Ok(json!({ "errcode": 0, "errmsg": "ok", "data": listed }).to_string())
    }
}

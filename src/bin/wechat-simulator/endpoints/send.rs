//! `POST /cgi-bin/message/subscribe/send` (docs/WECHAT.md#sending-a-subscribe-message).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::Method;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::request;
use crate::errcode::{INVALID_OPENID, Refusal};
use crate::serving::{Call, Peer, Simulator, Verdict};
use crate::templates::check_shape;
use crate::tokens::TokenIndex;
use crate::traffic::{Endpoint, Subject};
use crate::world::World;

/// The longest openid taken; real ones have 28 characters.
const OPENID_MAX_CHARS: usize = 64;

/// Answers one send.
pub async fn send(
    State(simulator): State<Arc<Simulator>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    method: Method,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let token = request::access_token(query.as_deref());
    let message = request::posted_json(&method, &body);
    simulator.serve(peer, Send { token, appid: String::new(), message }).await
}

/// A send as it was read off the wire.
struct Send {
    token: String,
    /// The token's app; empty until the token was checked.
    appid: String,
    message: Result<Message, Refusal>,
}

/// The request body. Wrong field names are not an error of their own: the openid is then simply missing.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    touser: String,
    #[serde(default)]
    template_id: String,
    page: Option<String>,
    #[serde(default)]
    data: Value,
}

impl Call for Send {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Send
    }

    fn subject<'a>(&'a self, tokens: &'a TokenIndex) -> Subject<'a> {
        let message = self.message.as_ref().ok();
        Subject {
            path: Endpoint::Send.path(),
            appid: tokens.appid_of(&self.token),
            openid: message.map(|message| message.touser.as_str()),
            template_id: message.map(|message| message.template_id.as_str()),
        }
    }

    fn page(&self) -> Option<&str> {
        self.message.as_ref().ok()?.page.as_deref()
    }

    /// Token, then body, then whether this user is free: all of them known on arrival.
    fn begin(&mut self, world: &mut World, now_ms: u64) -> Result<(), Refusal> {
        let app = world.app_by_token(&self.token, now_ms)?;
        self.appid.clone_from(&app.settings.appid);
        let strict = app.settings.strict_openids;
        let message = self.message.as_ref().map_err(Clone::clone)?;
        if !well_formed(&message.touser) || (strict && !world.knows(&self.appid, &message.touser)) {
            return Err(Refusal::of(INVALID_OPENID));
        }
        let begun = world.user(&self.appid, &message.touser).begin_processing();
        begun.inspect_err(|_| world.journal.conflict())
    }

    fn process(&self, world: &mut World, now_ms: u64) -> Verdict {
        let message = self.message.as_ref().map_err(Clone::clone)?;
        world.user(&self.appid, &message.touser).end_processing();
        message.accept(world, &self.appid, now_ms)?;
        message.deliver(world, &self.appid);
        Ok(format!(r#"{{"errcode":0,"errmsg":"ok","msgid":{}}}"#, world.next_msgid()))
    }
}

impl Message {
    /// Checks quota, template, data and consent, in this order; only what passes all uses up consent.
    fn accept(&self, world: &mut World, appid: &str, now_ms: u64) -> Result<(), Refusal> {
        let app = world.open_app(appid);
        app.use_quota(now_ms)?;
        let template = app.template(&self.template_id)?;
        let data = self.fields()?;
        template.map_or_else(|| check_shape(data), |template| template.check(data))?;
        let strict = app.settings.strict_consent;
        world.user(appid, &self.touser).use_consent(&self.template_id, strict)
    }

    fn deliver(&self, world: &mut World, appid: &str) {
        let data = self.data.to_string();
        world.journal.deliver(appid, &self.touser, &self.template_id, self.page.as_deref(), &data);
        world.user(appid, &self.touser).inbox.receive(&self.template_id, self.page.clone(), data);
    }

    /// The data object. Data sent as a JSON string is a common mistake, and gets a 47003 (docs/WECHAT.md#the-request).
    fn fields(&self) -> Result<&Map<String, Value>, Refusal> {
        self.data.as_object().ok_or_else(|| Refusal::bad_field("thing1", "is empty"))
    }
}

fn well_formed(openid: &str) -> bool {
    let printable = openid.bytes().all(|byte| byte.is_ascii_graphic());
    !openid.is_empty() && openid.len() <= OPENID_MAX_CHARS && printable
}

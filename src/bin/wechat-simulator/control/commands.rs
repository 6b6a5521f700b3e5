//! `/_sim/…`: changing the world. Bodies are read as JSON, whatever their content type.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::clock;
use crate::faults::Rule;
use crate::serving::Simulator;
use crate::tokens::Kind;
use crate::world::{AppSettings, Consent, LoginCode, World};

/// What a control call answers: JSON, or the reason why not.
pub type Reply = Result<Json<Value>, Complaint>;

/// A control call that makes no sense: HTTP 400 and `{"error": …}`.
pub struct Complaint(String);

impl IntoResponse for Complaint {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(json!({ "error": self.0 }))).into_response()
    }
}

/// Starts the world again.
pub async fn reset(State(simulator): State<Arc<Simulator>>, body: Bytes) -> Reply {
    let scenario = if body.is_empty() { None } else { Some(parse(&body)?) };
    simulator.reset(scenario.as_ref());
    done(1)
}

/// Registers apps, or changes them.
pub async fn apps(State(simulator): State<Arc<Simulator>>, body: Bytes) -> Reply {
    for_each(&simulator, &body, |world, app: AppSettings| world.register_app(app))
}

/// Registers what users agreed to.
pub async fn consent(State(simulator): State<Arc<Simulator>>, body: Bytes) -> Reply {
    for_each(&simulator, &body, |world, consent: Consent| world.grant(consent))
}

/// Registers login codes.
pub async fn codes(State(simulator): State<Arc<Simulator>>, body: Bytes) -> Reply {
    for_each(&simulator, &body, |world, code: LoginCode| world.register_code(code))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Latency {
    ms: u64,
    appid: Option<String>,
}

/// Sets how long requests take.
pub async fn latency(State(simulator): State<Arc<Simulator>>, body: Bytes) -> Reply {
    for_each(&simulator, &body, |world, it: Latency| world.set_latency(it.ms, it.appid.as_deref()))
}

/// Adds a fault rule behind the others.
pub async fn add_fault(State(simulator): State<Arc<Simulator>>, body: Bytes) -> Reply {
    let rule: Rule = parse(&body)?;
    let id = simulator.with_world(|world| world.faults.add(rule));
    Ok(Json(json!({ "id": id })))
}

/// The rules in force, with how often each saw and struck a request.
pub async fn list_faults(State(simulator): State<Arc<Simulator>>) -> Json<Value> {
    simulator.with_world(|world| Json(json!({ "faults": world.faults.list() })))
}

/// Ends all rules.
pub async fn clear_faults(State(simulator): State<Arc<Simulator>>) -> Reply {
    done(simulator.with_world(|world| world.faults.clear(None)))
}

/// Ends one rule.
pub async fn clear_fault(State(simulator): State<Arc<Simulator>>, Path(id): Path<u64>) -> Reply {
    done(simulator.with_world(|world| world.faults.clear(Some(id))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenOrder {
    appid: String,
    /// Absent: both interfaces.
    kind: Option<Kind>,
}

impl TokenOrder {
    fn kinds(&self) -> impl Iterator<Item = Kind> {
        let chosen = self.kind;
        [Kind::Stable, Kind::Classic].into_iter().filter(move |kind| chosen.is_none_or(|it| it == *kind))
    }
}

/// Every token of the app stops working at once.
pub async fn invalidate_tokens(State(simulator): State<Arc<Simulator>>, body: Bytes) -> Reply {
    for_each(&simulator, &body, |world, order: TokenOrder| {
        let app = world.open_app(&order.appid);
        order.kinds().for_each(|kind| app.issuer_mut(kind).invalidate());
    })
}

/// Somebody else fetched a new token: the old one works until the overlap is over.
pub async fn rotate_tokens(State(simulator): State<Arc<Simulator>>, body: Bytes) -> Reply {
    for_each(&simulator, &body, |world, order: TokenOrder| {
        order.kinds().for_each(|kind| rotate(world, &order.appid, kind));
    })
}

fn rotate(world: &mut World, appid: &str, kind: Kind) {
    let mut rng = world.rng.fork();
    let app = world.open_app(appid);
    let lifetime = app.token_lifetime();
    let issuer = app.issuer_mut(kind);
    let forgotten = issuer.replace(clock::now_ms(), lifetime, &mut rng);
    let current = issuer.current().unwrap_or_default().to_owned();
    world.tokens.add(&current, appid, kind, forgotten.as_deref());
}

/// Parses one item or a list, does something with each, and answers how many.
fn for_each<T: DeserializeOwned>(
    simulator: &Simulator,
    body: &[u8],
    mut act: impl FnMut(&mut World, T),
) -> Reply {
    // Looked at by hand: serde's untagged enums swallow the reason of a refusal.
    let is_list = body.trim_ascii_start().starts_with(b"[");
    let items: Vec<T> = if is_list { parse(body)? } else { vec![parse(body)?] };
    let count = items.len();
    simulator.with_world(|world| items.into_iter().for_each(|item| act(world, item)));
    done(count)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Complaint> {
    serde_json::from_slice(body).map_err(|error| Complaint(error.to_string()))
}

fn done(count: usize) -> Reply {
    Ok(Json(json!({ "done": count })))
}

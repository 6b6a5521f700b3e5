//! Which path leads where.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::routing::{any, delete, get, post};
use tokio::net::TcpListener;

use crate::simulator::Simulator;
use crate::wire::{CuttableListener, Peer};
use crate::world::Scenario;
use crate::{control, login, questions, send, template_api, token_api};

/// Serves a world until the listener fails.
pub async fn serve(listener: TcpListener, scenario: Scenario) -> io::Result<()> {
    let simulator = Arc::new(Simulator::new(scenario));
    let router = wechat().merge(scripting()).with_state(simulator);
    axum::serve(CuttableListener(listener), router.into_make_service_with_connect_info::<Peer>()).await
}

/// WeChat's side. Wrong verbs have errcodes of their own, so the handlers see them.
fn wechat() -> Router<Arc<Simulator>> {
    Router::new()
        .route("/cgi-bin/token", get(token_api::token))
        .route("/cgi-bin/stable_token", any(token_api::stable_token))
        .route("/cgi-bin/message/subscribe/send", any(send::send))
        .route("/sns/jscode2session", get(login::jscode2session))
        .route("/wxaapi/newtmpl/gettemplate", any(template_api::gettemplate))
}

fn scripting() -> Router<Arc<Simulator>> {
    Router::new()
        .route("/_sim/reset", post(control::reset))
        .route("/_sim/apps", post(control::apps))
        .route("/_sim/consent", post(control::consent))
        .route("/_sim/codes", post(control::codes))
        .route("/_sim/latency", post(control::latency))
        .route("/_sim/tokens/invalidate", post(control::invalidate_tokens))
        .route("/_sim/tokens/rotate", post(control::rotate_tokens))
        .route(
            "/_sim/faults",
            post(control::add_fault).get(control::list_faults).delete(control::clear_faults),
        )
        .route("/_sim/faults/{id}", delete(control::clear_fault))
        .route("/_sim/sent", get(questions::sent))
        .route("/_sim/doubles", get(questions::doubles))
        .route("/_sim/requests", get(questions::requests))
        .route("/_sim/stats", get(questions::stats))
}

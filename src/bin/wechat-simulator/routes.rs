//! Which path leads where.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::routing::{any, delete, get, post};
use tokio::net::TcpListener;

use crate::control::{commands, questions};
use crate::endpoints::{login, send, templates, token};
use crate::serving::{CuttableListener, Peer, Simulator};
use crate::world::Scenario;

/// Serves a world until the listener fails.
pub async fn serve(listener: TcpListener, scenario: Scenario) -> io::Result<()> {
    let simulator = Arc::new(Simulator::new(scenario));
    let router = wechat().merge(scripting()).with_state(simulator);
    axum::serve(CuttableListener(listener), router.into_make_service_with_connect_info::<Peer>()).await
}

/// WeChat's side. Wrong verbs have errcodes of their own, so the handlers see them.
fn wechat() -> Router<Arc<Simulator>> {
    Router::new()
        .route("/cgi-bin/token", get(token::token))
        .route("/cgi-bin/stable_token", any(token::stable_token))
        .route("/cgi-bin/message/subscribe/send", any(send::send))
        .route("/sns/jscode2session", get(login::jscode2session))
        .route("/wxaapi/newtmpl/gettemplate", any(templates::gettemplate))
}

fn scripting() -> Router<Arc<Simulator>> {
    Router::new()
        .route("/_sim/reset", post(commands::reset))
        .route("/_sim/apps", post(commands::apps))
        .route("/_sim/consent", post(commands::consent))
        .route("/_sim/codes", post(commands::codes))
        .route("/_sim/latency", post(commands::latency))
        .route("/_sim/tokens/invalidate", post(commands::invalidate_tokens))
        .route("/_sim/tokens/rotate", post(commands::rotate_tokens))
        .route(
            "/_sim/faults",
            post(commands::add_fault).get(commands::list_faults).delete(commands::clear_faults),
        )
        .route("/_sim/faults/{id}", delete(commands::clear_fault))
        .route("/_sim/sent", get(questions::sent))
        .route("/_sim/doubles", get(questions::doubles))
        .route("/_sim/requests", get(questions::requests))
        .route("/_sim/stats", get(questions::stats))
}

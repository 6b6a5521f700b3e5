//! `/_sim/…`: asking what happened.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::serving::Simulator;
use crate::world::User;

/// Requests shown when the question names no limit.
const REQUESTS_SHOWN: usize = 100;

/// What a question is about; an absent field means all.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct About {
    appid: Option<String>,
    openid: Option<String>,
    template_id: Option<String>,
    path: Option<String>,
    /// At most so many, the newest.
    limit: Option<usize>,
    /// 1: with the last message of each user.
    full: u8,
}

impl About {
    fn fits(wanted: Option<&str>, actual: Option<&str>) -> bool {
        wanted.is_none_or(|wanted| actual == Some(wanted))
    }

    fn fits_app(&self, appid: Option<&str>) -> bool {
        Self::fits(self.appid.as_deref(), appid)
    }

    fn fits_openid(&self, openid: Option<&str>) -> bool {
        Self::fits(self.openid.as_deref(), openid)
    }

    fn fits_template(&self, template_id: Option<&str>) -> bool {
        Self::fits(self.template_id.as_deref(), template_id)
    }
}

/// Who got how much.
pub async fn sent(State(simulator): State<Arc<Simulator>>, Query(about): Query<About>) -> Json<Value> {
    let users: Vec<Value> = simulator.with_world(|world| {
        let apps = world.apps.iter().filter(|(appid, _)| about.fits_app(Some(appid)));
        apps.flat_map(|(appid, app)| app.users.iter().map(move |(openid, user)| (appid, openid, user)))
            .filter(|(_, openid, _)| about.fits_openid(Some(openid)))
            .filter_map(|(appid, openid, user)| inbox(&about, appid, openid, user))
            .collect()
    });
    let total: u64 = users.iter().filter_map(|user| user["count"].as_u64()).sum();
    Json(json!({ "total": total, "users": users }))
}

/// One user's inbox, unless it is empty.
fn inbox(about: &About, appid: &str, openid: &str, user: &User) -> Option<Value> {
    let templates: serde_json::Map<String, Value> = user
        .inbox
        .templates
        .iter()
        .filter(|(template_id, _)| about.fits_template(Some(template_id)))
        .map(|(template_id, count)| (template_id.clone(), json!(count)))
        .collect();
    let count: u64 = templates.values().filter_map(Value::as_u64).sum();
    let mut inbox = json!({ "appid": appid, "openid": openid, "count": count, "templates": templates });
    if about.full > 0 {
        inbox["last"] = json!(user.inbox.last);
    }
    (count > 0).then_some(inbox)
}

/// The counters.
pub async fn stats(State(simulator): State<Arc<Simulator>>) -> Json<Value> {
    let mut stats = simulator.with_world(|world| json!(world.journal.counters));
    stats["held"] = json!(simulator.held());
    Json(stats)
}

/// The newest requests, oldest first.
pub async fn requests(State(simulator): State<Arc<Simulator>>, Query(about): Query<About>) -> Json<Value> {
    simulator.with_world(|world| {
        let newest = world.journal.newest(about.limit.unwrap_or(REQUESTS_SHOWN), |request| {
            about.fits_app(request.appid.as_deref())
                && about.fits_openid(request.openid.as_deref())
                && about.fits_template(request.template_id.as_deref())
                && About::fits(about.path.as_deref(), Some(request.path))
        });
        Json(json!({ "requests": newest }))
    })
}

/// Messages that users got more than once.
pub async fn doubles(State(simulator): State<Arc<Simulator>>, Query(about): Query<About>) -> Json<Value> {
    simulator.with_world(|world| {
        let doubles: Vec<_> = world
            .journal
            .doubles()
            .filter(|double| about.fits_app(Some(&double.appid)) && about.fits_openid(Some(&double.openid)))
            .filter(|double| about.fits_template(Some(&double.template_id)))
            .collect();
        let surplus: u32 = doubles.iter().map(|double| double.times - 1).sum();
        Json(json!({ "surplus": surplus, "doubles": doubles }))
    })
}

//! Whom a request concerns, and the choice of requests by it.

use serde::{Deserialize, Serialize};

/// Whom a request concerns, as far as it says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    pub path: &'a str,
    pub appid: Option<&'a str>,
    pub openid: Option<&'a str>,
    pub template_id: Option<&'a str>,
}

/// What a rule or a question can select requests by; an absent field selects all.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// The name of an endpoint: `send`, `stable_token`, `token`, `jscode2session`, `gettemplate`.
    pub path: Option<String>,
    pub appid: Option<String>,
    pub openid: Option<String>,
    pub template_id: Option<String>,
}

impl Selector {
    /// Whether everything it names agrees with the subject.
    pub fn selects(&self, subject: &Subject<'_>) -> bool {
        let agrees = |wanted: &Option<String>, actual: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| actual == Some(wanted))
        };
        agrees(&self.path, Some(subject.path))
            && agrees(&self.appid, subject.appid)
            && agrees(&self.openid, subject.openid)
            && agrees(&self.template_id, subject.template_id)
    }
}

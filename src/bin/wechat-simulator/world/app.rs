//! One mini program: its credentials, tokens, templates, users and quotas.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::quota::Quota;
use super::user::User;
use crate::errcode::{INVALID_SECRET, INVALID_TEMPLATE, Refusal, SECRET_MISSING};
use crate::templates::Template;
use crate::tokens::{Issuer, Kind, Lifetime};

/// WeChat's own token lifetime.
const TOKEN_LIFETIME_SECONDS: u64 = 7_200;
/// WeChat's overlap of 300 s is this part of its lifetime; a shortened lifetime keeps the proportion, or a
/// stable token would never leave its last minutes.
const OVERLAP_PART_OF_LIFETIME: u64 = 24;
/// An app as a scenario writes it. Everything but the appid may be left out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AppSettings {
    pub appid: String,
    /// Absent: any secret will do.
    pub secret: Option<String>,
    /// With templates, any other template id is a 40037 and data is checked against them; without, anything goes.
    #[serde(default)]
    pub templates: Vec<Template>,
    pub token_lifetime_seconds: Option<u64>,
    /// How long a replaced token works; absent: a 24th of the lifetime, as 300 is of 7,200.
    pub token_overlap_seconds: Option<u64>,
    /// Sends a day, counted in Shanghai time.
    pub daily_quota: Option<u64>,
    pub minute_quota: Option<u64>,
    /// Only openids known from a consent or a login are valid, and only registered login codes.
    #[serde(default)]
    pub strict_openids: bool,
    /// Without a registered consent there is none.
    #[serde(default)]
    pub strict_consent: bool,
}

/// An app with all it remembers.
#[derive(Debug, Default)]
pub struct App {
    pub settings: AppSettings,
    pub users: HashMap<String, User>,
    /// Overrides the latency of all apps.
    pub latency_ms: Option<u64>,
    stable: Issuer,
    classic: Issuer,
    quota: Quota,
}

impl App {
    /// A new app without users or tokens.
    pub fn new(settings: AppSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Takes new settings; tokens and users stay, quotas are counted afresh.
    pub fn update(&mut self, settings: AppSettings) {
        self.settings = settings;
        self.quota = Quota::default();
    }

    /// Checks a secret against the registered one, if there is one.
    ///
    /// # Errors
    /// 41004 or 40125.
    pub fn check_secret(&self, secret: &str) -> Result<(), Refusal> {
        match &self.settings.secret {
            _ if secret.is_empty() => Err(Refusal::of(SECRET_MISSING)),
            Some(registered) if registered != secret => Err(Refusal::of(INVALID_SECRET)),
            _ => Ok(()),
        }
    }

    /// The tokens of one interface.
    pub fn issuer(&self, kind: Kind) -> &Issuer {
        match kind {
            Kind::Stable => &self.stable,
            Kind::Classic => &self.classic,
        }
    }

    /// The tokens of one interface, to be changed.
    pub fn issuer_mut(&mut self, kind: Kind) -> &mut Issuer {
        match kind {
            Kind::Stable => &mut self.stable,
            Kind::Classic => &mut self.classic,
        }
    }

    /// The lifetime of the app's tokens, from both interfaces.
    pub fn token_lifetime(&self) -> Lifetime {
        let valid_ms = self.settings.token_lifetime_seconds.unwrap_or(TOKEN_LIFETIME_SECONDS) * 1_000;
        let overlap_ms = self
            .settings
            .token_overlap_seconds
            .map_or(valid_ms / OVERLAP_PART_OF_LIFETIME, |seconds| seconds * 1_000);
        Lifetime { valid_ms, overlap_ms }
    }

    /// The template with this id. None where no templates are registered, so that nothing can be checked.
    ///
    /// # Errors
    /// 40037 for an empty id, or one that is not among the registered.
    pub fn template(&self, template_id: &str) -> Result<Option<&Template>, Refusal> {
        let unknown = || Refusal::of(INVALID_TEMPLATE);
        if self.settings.templates.is_empty() {
            return if template_id.is_empty() { Err(unknown()) } else { Ok(None) };
        }
        let found = self.settings.templates.iter().find(|template| template.template_id == template_id);
        found.map(Some).ok_or_else(unknown)
    }

    /// Counts one send against the quotas.
    ///
    /// # Errors
    /// 45009 when the day's are used up, 45011 when the minute's are.
    pub fn use_quota(&mut self, now_ms: u64) -> Result<(), Refusal> {
        self.quota.use_one(now_ms, self.settings.daily_quota, self.settings.minute_quota)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_token_life_keeps_the_proportion_of_the_overlap() {
        let wechat = App::default().token_lifetime();
        assert_eq!((wechat.valid_ms, wechat.overlap_ms), (7_200_000, 300_000));
        let settings = AppSettings { token_lifetime_seconds: Some(24), ..AppSettings::default() };
        assert_eq!(App::new(settings).token_lifetime().overlap_ms, 1_000);
    }
}

//! What a world starts with, as a file or a request writes it.

use serde::{Deserialize, Serialize};

use super::app::AppSettings;
use super::login_code::LoginCode;
use super::user::Consent;
use crate::faults::Rule;

/// What a world starts with: the configuration file, and the body of `/_sim/reset`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Unknown appids are refused instead of welcomed.
    pub strict: bool,
    /// Time a request takes to be processed.
    pub latency_ms: u64,
    pub apps: Vec<AppSettings>,
    pub consents: Vec<Consent>,
    pub faults: Vec<Rule>,
    pub codes: Vec<LoginCode>,
}

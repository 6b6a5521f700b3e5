//! The whole state of the simulated platform: a scenario sets it up, apps have users, users have consents and an inbox.

mod app;
mod login_code;
mod quota;
mod scenario;
mod user;

use std::collections::HashMap;

use fastrand::Rng;

use self::app::App;
pub use self::app::AppSettings;
pub use self::login_code::LoginCode;
pub use self::scenario::Scenario;
pub use self::user::{Consent, User};
use crate::errcode::{
    APPID_MISSING, INVALID_APPID, INVALID_CREDENTIAL, MALFORMED_TOKEN, Refusal, TOKEN_MISSING,
};
use crate::faults::Faults;
use crate::tokens::{self, TokenIndex};
use crate::traffic::Journal;

/// Ids of real messages are beyond 2^53, where a float would corrupt them (docs/WECHAT.md#the-answer).
const FIRST_MSGID: u64 = 1_988_810_812_324_364_291;

/// The simulated platform.
pub struct World {
    pub apps: HashMap<String, App>,
    pub faults: Faults,
    pub journal: Journal,
    pub codes: HashMap<String, LoginCode>,
    pub rng: Rng,
    pub tokens: TokenIndex,
    strict: bool,
    latency_ms: u64,
    /// Consents granted in every app, by openid, for apps that are still to come.
    common_consents: HashMap<String, Vec<Consent>>,
    next_msgid: u64,
}

impl World {
    /// A world at its beginning.
    pub fn new(scenario: &Scenario) -> Self {
        let mut world = Self {
            apps: HashMap::new(),
            faults: Faults::default(),
            journal: Journal::default(),
            codes: HashMap::new(),
            rng: Rng::new(),
            strict: scenario.strict,
            latency_ms: scenario.latency_ms,
            tokens: TokenIndex::default(),
            common_consents: HashMap::new(),
            next_msgid: FIRST_MSGID,
        };
        for app in scenario.apps.iter().cloned() {
            world.register_app(app);
        }
        for consent in scenario.consents.iter().cloned() {
            world.grant(consent);
        }
        for rule in scenario.faults.iter().cloned() {
            world.faults.add(rule);
        }
        for code in scenario.codes.iter().cloned() {
            world.register_code(code);
        }
        world
    }

    /// Adds an app, or changes the settings of one that is there.
    pub fn register_app(&mut self, settings: AppSettings) {
        match self.apps.get_mut(&settings.appid) {
            Some(app) => app.update(settings),
            None => drop(self.apps.insert(settings.appid.clone(), App::new(settings))),
        }
    }

    /// Registers what a user agreed to.
    pub fn grant(&mut self, consent: Consent) {
        let Consent { appid, openid, template_id, remaining } = consent.clone();
        if let Some(appid) = appid {
            let user = self.open_app(&appid).users.entry(openid).or_default();
            user.known = true;
            user.grant(template_id, remaining);
            return;
        }
        for user in self.apps.values_mut().filter_map(|app| app.users.get_mut(&openid)) {
            user.known = true;
            user.grant(template_id.clone(), remaining);
        }
        self.common_consents.entry(openid).or_default().push(consent);
    }

    /// Registers who logs in with a code.
    pub fn register_code(&mut self, code: LoginCode) {
        self.codes.insert(code.js_code.clone(), code);
    }

    /// Sets the latency of one app, or of all.
    pub fn set_latency(&mut self, ms: u64, appid: Option<&str>) {
        if let Some(appid) = appid {
            self.open_app(appid).latency_ms = Some(ms);
            return;
        }
        self.latency_ms = ms;
        self.apps.values_mut().for_each(|app| app.latency_ms = None);
    }

    /// How long a request of this app is processed.
    pub fn latency_ms(&self, appid: Option<&str>) -> u64 {
        appid.and_then(|appid| self.apps.get(appid)?.latency_ms).unwrap_or(self.latency_ms)
    }

    /// The app with this id, made up on the spot if need be.
    pub fn open_app(&mut self, appid: &str) -> &mut App {
        // Looked up before it is inserted: `entry` alone would copy the key for every send.
        if !self.apps.contains_key(appid) {
            self.register_app(AppSettings { appid: appid.to_owned(), ..AppSettings::default() });
        }
        self.apps.get_mut(appid).expect("registered above")
    }

    /// The app that shows these credentials; in an open world any appid is an app.
    ///
    /// # Errors
    /// 41002, 40013, 41004, 40125.
    pub fn authenticate(&mut self, appid: &str, secret: &str) -> Result<&mut App, Refusal> {
        if appid.is_empty() {
            return Err(Refusal::of(APPID_MISSING));
        }
        if self.strict && !self.apps.contains_key(appid) {
            return Err(Refusal::of(INVALID_APPID));
        }
        let app = self.open_app(appid);
        app.check_secret(secret)?;
        Ok(app)
    }

    /// The app that a working token belongs to.
    ///
    /// # Errors
    /// 41001, 40014, 40001, 42001.
    pub fn app_by_token(&mut self, token: &str, now_ms: u64) -> Result<&mut App, Refusal> {
        if token.is_empty() {
            return Err(Refusal::of(TOKEN_MISSING));
        }
        let owner = self.tokens.owner(token);
        let Some((app, kind)) = owner.and_then(|(appid, kind)| Some((self.apps.get_mut(appid)?, kind)))
        else {
            let code = if tokens::well_formed(token) { INVALID_CREDENTIAL } else { MALFORMED_TOKEN };
            return Err(Refusal::of(code));
        };
        app.issuer(kind).check(token, now_ms)?;
        Ok(app)
    }

    /// The user of an app, with the consents that were granted in every app.
    pub fn user(&mut self, appid: &str, openid: &str) -> &mut User {
        if self.apps.get(appid).is_none_or(|app| !app.users.contains_key(openid)) {
            let newcomer = self.newcomer(openid);
            self.open_app(appid).users.insert(openid.to_owned(), newcomer);
        }
        let user = self.apps.get_mut(appid).and_then(|app| app.users.get_mut(openid));
        user.expect("inserted above")
    }

    /// The id of the next message.
    pub fn next_msgid(&mut self) -> u64 {
        self.next_msgid += 1;
        self.next_msgid
    }

    /// Whether anything ever made this user of the app known.
    pub fn knows(&self, appid: &str, openid: &str) -> bool {
        let user = self.apps.get(appid).and_then(|app| app.users.get(openid));
        user.is_some_and(|user| user.known) || self.common_consents.contains_key(openid)
    }

    fn newcomer(&self, openid: &str) -> User {
        let mut user = User::default();
        for consent in self.common_consents.get(openid).into_iter().flatten() {
            user.known = true;
            user.grant(consent.template_id.clone(), consent.remaining);
        }
        user
    }
}

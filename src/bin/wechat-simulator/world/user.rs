//! One user of one app: what they agreed to, what they got, and whether a send to them is being processed right now.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::errcode::{CONCURRENT_SEND, NOT_SUBSCRIBED, Refusal};

/// A user of an app, by openid.
#[derive(Debug, Default)]
pub struct User {
    /// Made known by a scenario or a login, not just written to.
    pub known: bool,
    /// Sends left by template; None = as many as wanted.
    consents: HashMap<String, Option<u32>>,
    /// Requests for this user that are in the hands of the platform.
    processing: u32,
    pub inbox: Inbox,
}

impl User {
    /// Opens the window in which a second request for this user is a conflict. It stays open until
    /// [`User::end_processing`], that is, for the whole time a request is worked on.
    ///
    /// # Errors
    /// 43108 while another request is inside.
    pub fn begin_processing(&mut self) -> Result<(), Refusal> {
        if self.processing > 0 {
            return Err(Refusal::of(CONCURRENT_SEND));
        }
        self.processing += 1;
        Ok(())
    }

    /// Closes the window.
    pub fn end_processing(&mut self) {
        self.processing = self.processing.saturating_sub(1);
    }

    /// Sets what a template may still send to this user; None = without limit.
    pub fn grant(&mut self, template_id: String, remaining: Option<u32>) {
        self.consents.insert(template_id, remaining);
    }

    /// Uses up one consent. With `strict`, a template nobody registered consent for has none.
    ///
    /// # Errors
    /// 43101 when nothing is left.
    pub fn use_consent(&mut self, template_id: &str, strict: bool) -> Result<(), Refusal> {
        match self.consents.get_mut(template_id) {
            Some(Some(remaining)) if *remaining > 0 => {
                *remaining -= 1;
                Ok(())
            }
            Some(None) => Ok(()),
            None if !strict => Ok(()),
            Some(Some(_)) | None => Err(Refusal::of(NOT_SUBSCRIBED)),
        }
    }
}

/// The messages a user got.
#[derive(Debug, Default)]
pub struct Inbox {
    /// How many, by template. A list: most users have one entry, and there may be a million users.
    pub templates: Vec<(String, u64)>,
    pub last: Option<LastMessage>,
}

/// The newest message in an inbox.
#[derive(Clone, Debug, Serialize)]
pub struct LastMessage {
    pub page: Option<String>,
    /// The data object as JSON text with sorted keys.
    #[serde(serialize_with = "as_json")]
    pub data: String,
}

fn as_json<S: serde::Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::from_str::<serde_json::Value>(text).map_err(serde::ser::Error::custom)?.serialize(serializer)
}

impl Inbox {
    /// Takes one more message; only the newest is kept whole.
    pub fn receive(&mut self, template_id: &str, page: Option<String>, data: String) {
        match self.templates.iter_mut().find(|(known, _)| known == template_id) {
            Some((_, count)) => *count += 1,
            None => {
                self.templates.reserve_exact(1);
                self.templates.push((template_id.to_owned(), 1));
            }
        }
        self.last = Some(LastMessage { page, data });
    }
}

/// A consent as a scenario writes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// Absent: for the user with this openid in every app.
    pub appid: Option<String>,
    pub openid: String,
    pub template_id: String,
    /// Sends left; absent or null = without limit (a long-term template).
    pub remaining: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_consent_is_used_up_one_by_one() {
        let mut user = User::default();
        user.grant("T1".into(), Some(2));
        assert_eq!(user.use_consent("T1", false), Ok(()));
        assert_eq!(user.use_consent("T1", false), Ok(()));
        assert_eq!(user.use_consent("T1", false), Err(Refusal::of(NOT_SUBSCRIBED)));
    }

    #[test]
    fn an_uncounted_consent_never_runs_out() {
        let mut user = User::default();
        user.grant("T1".into(), None);
        assert!((0..100).all(|_| user.use_consent("T1", true).is_ok()));
    }

    #[test]
    fn silence_is_consent_only_in_a_lenient_app() {
        let mut user = User::default();
        assert_eq!(user.use_consent("T1", false), Ok(()));
        assert_eq!(user.use_consent("T1", true), Err(Refusal::of(NOT_SUBSCRIBED)));
    }

    #[test]
    fn a_second_request_conflicts_until_the_first_is_done() {
        let mut user = User::default();
        assert_eq!(user.begin_processing(), Ok(()));
        assert_eq!(user.begin_processing(), Err(Refusal::of(CONCURRENT_SEND)));
        user.end_processing();
        assert_eq!(user.begin_processing(), Ok(()));
    }
}

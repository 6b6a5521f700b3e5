//! Whose token is whose.

use std::collections::HashMap;

use super::issuer::Kind;

/// The app and interface every remembered token came from; as small as what the issuers remember.
#[derive(Debug, Default)]
pub struct TokenIndex {
    owners: HashMap<String, (String, Kind)>,
}

impl TokenIndex {
    /// Makes a token known, and drops the one it pushed out.
    pub fn add(&mut self, token: &str, appid: &str, kind: Kind, forgotten: Option<&str>) {
        if let Some(forgotten) = forgotten {
            self.owners.remove(forgotten);
        }
        if !self.owners.contains_key(token) {
            self.owners.insert(token.to_owned(), (appid.to_owned(), kind));
        }
    }

    /// The app and interface of a token, whether or not it still works.
    pub fn owner(&self, token: &str) -> Option<(&str, Kind)> {
        self.owners.get(token).map(|(appid, kind)| (appid.as_str(), *kind))
    }

    /// The app of a token, whether or not it still works.
    pub fn appid_of(&self, token: &str) -> Option<&str> {
        self.owner(token).map(|(appid, _)| appid)
    }
}

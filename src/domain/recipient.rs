//! Who an event can reach.

use super::ids::{Openid, SysUserId};

/// Somebody an event is meant for: a bound WeChat user, or a name that leads to none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Recipient {
    /// A WeChat user of the event's app, and the business user they were found through, if any.
    Bound { openid: Openid, sys_user_id: Option<SysUserId> },
    /// A business user that no openid of the app is bound to.
    Unbound { sys_user_id: SysUserId },
    /// Nobody at all: the event's rules name no one.
    Nobody,
}

/// A ledger key or an openid as it may be shown: of an openid the first characters; `@` and a business user as they are.
pub fn masked(key: &str) -> String {
    match Openid::parse(key) {
        Ok(openid) if !key.starts_with('@') => openid.to_string(),
        _ => key.to_owned(),
    }
}

impl Recipient {
    /// The ledger's `recipient` column: the openid, else `@` and the business user, else empty.
    pub fn ledger_key(&self) -> String {
        match self {
            Self::Bound { openid, .. } => openid.as_str().to_owned(),
            Self::Unbound { sys_user_id } => format!("@{}", sys_user_id.as_str()),
            Self::Nobody => String::new(),
        }
    }

    /// The WeChat user, where there is one.
    pub fn openid(&self) -> Option<&Openid> {
        match self {
            Self::Bound { openid, .. } => Some(openid),
            Self::Unbound { .. } | Self::Nobody => None,
        }
    }

    /// The business user, where there is one.
    pub fn sys_user_id(&self) -> Option<&SysUserId> {
        match self {
            Self::Bound { sys_user_id, .. } => sys_user_id.as_ref(),
            Self::Unbound { sys_user_id } => Some(sys_user_id),
            Self::Nobody => None,
        }
    }
}

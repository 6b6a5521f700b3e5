//! A login code: who logs in with it, once.

use serde::{Deserialize, Serialize};

use crate::errcode::{CODE_USED, INVALID_CODE, Refusal};

/// A login code as a scenario writes it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LoginCode {
    pub js_code: String,
    /// Absent: good for any app.
    pub appid: Option<String>,
    pub openid: String,
    pub unionid: Option<String>,
    /// A code works once.
    #[serde(skip)]
    used: bool,
}

impl LoginCode {
    /// A code that is good for any app.
    pub fn new(js_code: String, openid: String) -> Self {
        Self { js_code, openid, ..Self::default() }
    }

    /// Uses the code up.
    ///
    /// # Errors
    /// 40029 in an app that the code is not for, 40163 the second time.
    pub fn redeem(&mut self, appid: &str) -> Result<(), Refusal> {
        if self.appid.as_ref().is_some_and(|own| own != appid) {
            return Err(Refusal::of(INVALID_CODE));
        }
        if self.used {
            return Err(Refusal::of(CODE_USED));
        }
        self.used = true;
        Ok(())
    }
}

//! The two token endpoints (docs/WECHAT.md#access-tokens).

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::access_token::percent_encoded;
use super::send::integer;
use super::{Client, RequestError};
use crate::domain::answer::split_errmsg;
use crate::domain::app::TokenApi;
use crate::domain::ids::AppId;

/// WeChat is busy: the only code of the token endpoints that ends within seconds without a fix.
const SYSTEM_BUSY: i64 = -1;

/// WeChat's tokens live two hours. A server that promises more is wrong, and must not make a clock overflow.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// What a token endpoint returned.
pub struct FetchedToken {
    pub value: SecretString,
    /// Time left, according to WeChat. Not always two hours: the stable endpoint repeats a token with what is left of it.
    pub expires_in: Duration,
}

impl fmt::Debug for FetchedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FetchedToken(expires in {:?})", self.expires_in)
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFetchError {
    /// WeChat says no: wrong secret, blocked address, quota. 40164 names the address in its text.
    #[error("WeChat refuses a token: {errcode} {errmsg}")]
    Refused { errcode: i64, errmsg: String },
    /// WeChat's answer is not usable.
    #[error("cannot reach the token endpoint: {0}")]
    Away(#[from] RequestError),
    #[error("cannot read the token endpoint's answer")]
    Unreadable,
}

impl TokenFetchError {
    /// Does it end without a fix? A refusal does not: it is a fault of the app.
    pub fn passes_by_itself(&self) -> bool {
        !matches!(self, Self::Refused { errcode, .. } if *errcode != SYSTEM_BUSY)
    }
}

impl Client {
    /// Asks for a token: the stable endpoint for the current one, the classic one for a new one that replaces it.
    ///
    /// Never with `force_refresh`: it would invalidate the token of every other system that uses the app.
    pub async fn fetch_token(
        &self,
        api: TokenApi,
        app_id: &AppId,
        secret: &SecretString,
    ) -> Result<FetchedToken, TokenFetchError> {
        let request = match api {
            TokenApi::Stable => self.http.post(self.stable_token_url.clone()).json(&StableBody {
                grant_type: "client_credential",
                appid: app_id.as_str(),
                secret: secret.expose_secret(),
                force_refresh: false,
            }),
            TokenApi::Classic => self.http.get(self.classic_url(app_id, secret)),
        };
        read_token(&self.exchange(request).await?)
    }

    fn classic_url(&self, app_id: &AppId, secret: &SecretString) -> reqwest::Url {
        let mut url = self.token_url.clone();
        url.set_query(Some(&format!(
            "grant_type=client_credential&appid={}&secret={}",
            percent_encoded(app_id.as_str()),
            percent_encoded(secret.expose_secret()),
        )));
        url
    }
}

#[derive(Serialize)]
struct StableBody<'a> {
    grant_type: &'static str,
    appid: &'a str,
    secret: &'a str,
    force_refresh: bool,
}

#[derive(Deserialize)]
struct Words {
    access_token: Option<SecretString>,
    #[serde(default)]
    expires_in: Value,
    #[serde(default)]
    errcode: Value,
    #[serde(default)]
    errmsg: Value,
}

/// Success has no code, or 0; a failure has one and no token.
fn read_token(body: &[u8]) -> Result<FetchedToken, TokenFetchError> {
    let words: Words = serde_json::from_slice(body).map_err(|_| TokenFetchError::Unreadable)?;
    if let Some(errcode) = integer(&words.errcode).filter(|code| *code != 0) {
        // The request id stays: it is what WeChat's support asks for, and there is no other place to keep it.
        let (errmsg, rid) = split_errmsg(words.errmsg.as_str().unwrap_or_default());
        let errmsg = rid.map_or_else(|| errmsg.clone(), |rid| format!("{errmsg} rid: {rid}"));
        return Err(TokenFetchError::Refused { errcode, errmsg });
    }
    let value = words.access_token.filter(|value| !value.expose_secret().is_empty());
    let seconds = integer(&words.expires_in).and_then(|seconds| u64::try_from(seconds).ok());
    match (value, seconds) {
        (Some(value), Some(seconds)) if seconds > 0 => {
            Ok(FetchedToken { value, expires_in: Duration::from_secs(seconds).min(LONGEST_LIFE) })
        }
        _ => Err(TokenFetchError::Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<FetchedToken, TokenFetchError> {
        read_token(body.as_bytes())
    }

    #[test]
    fn a_token_comes_with_the_time_it_has_left() {
        for body in [
            r#"{"access_token":"57_abc","expires_in":345}"#,
            r#"{"errcode":0,"errmsg":"ok","access_token":"57_abc","expires_in":345}"#,
        ] {
            let token = read(body).unwrap();
            assert_eq!(token.value.expose_secret(), "57_abc");
            assert_eq!(token.expires_in, Duration::from_secs(345));
            assert_eq!(format!("{token:?}"), "FetchedToken(expires in 345s)");
        }
    }

    #[test]
    fn a_refusal_keeps_code_text_and_request_id() {
        let body = r#"{"errcode":40164,"errmsg":"invalid ip 1.2.3.4, not in whitelist rid: 5f-3a"}"#;
        let error = read(body).unwrap_err();
        assert!(!error.passes_by_itself());
        assert_eq!(
            error.to_string(),
            "WeChat refuses a token: 40164 invalid ip 1.2.3.4, not in whitelist rid: 5f-3a"
        );
    }

    #[test]
    fn a_busy_system_passes_by_itself() {
        assert!(read(r#"{"errcode":-1,"errmsg":"system error"}"#).unwrap_err().passes_by_itself());
    }

    #[test]
    fn an_absurd_life_is_cut() {
        let token = read(r#"{"access_token":"a","expires_in":9223372036854775807}"#).unwrap();
        assert_eq!(token.expires_in, LONGEST_LIFE);
    }

    #[test]
    fn half_an_answer_is_no_token() {
        for body in ["{}", "<html>", r#"{"access_token":"","expires_in":7200}"#, r#"{"access_token":"a"}"#] {
            assert!(matches!(read(body), Err(TokenFetchError::Unreadable)), "{body}");
        }
    }
}

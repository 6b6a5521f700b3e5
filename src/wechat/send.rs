//! One message to one openid, and what comes back (docs/WECHAT.md#sending-a-subscribe-message).

use serde::Deserialize;
use serde_json::Value;

use super::{AccessToken, Client, RequestError};
use crate::domain::answer::{SendAnswer, split_errmsg};
use crate::domain::message_kind::{Message, MessageKind};

impl Client {
    /// Asks WeChat to bring one message to one openid. Never fails: whatever becomes of the request is an answer.
    pub async fn send(&self, token: &AccessToken, kind: MessageKind, message: &Message<'_>) -> SendAnswer {
        let url = token.send_url(kind, &self.send_urls[kind as usize]);
        match self.exchange(self.http.post(url).json(&kind.body(message))).await {
            Ok(body) => read_answer(&body),
            Err(error) => error.into(),
        }
    }
}

impl From<RequestError> for SendAnswer {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NotConnected(_) => Self::NotConnected,
            RequestError::TimedOut(_) => Self::TimedOut,
            RequestError::Broken(_) => Self::Broken,
            RequestError::Http { status, retry_after } => Self::Http { status, retry_after },
            RequestError::TooLarge => Self::Unreadable,
        }
    }
}

/// The fields of the answer. Values of an unexpected type must not make a success unreadable, so they are read late.
#[derive(Deserialize)]
struct Words {
    #[serde(default)]
    errcode: Value,
    #[serde(default)]
    errmsg: Value,
    /// A number beyond 2^53 (docs/WECHAT.md#the-answer).
    #[serde(default)]
    msgid: Value,
}

fn read_answer(body: &[u8]) -> SendAnswer {
    let Ok(words) = serde_json::from_slice::<Words>(body) else { return SendAnswer::Unreadable };
    let msgid = unsigned(&words.msgid);
    let (errmsg, rid) = split_errmsg(words.errmsg.as_str().unwrap_or_default());
    match integer(&words.errcode) {
        Some(errcode) => SendAnswer::Read { errcode, errmsg, rid, msgid },
        None if words.errcode.is_null() && (msgid.is_some() || errmsg == "ok") => {
            SendAnswer::Read { errcode: 0, errmsg, rid, msgid }
        }
        None => SendAnswer::Unreadable,
    }
}

/// A whole number, or one in a string.
pub(super) fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn unsigned(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> SendAnswer {
        read_answer(body.as_bytes())
    }

    fn success(msgid: Option<u64>) -> SendAnswer {
        SendAnswer::Read { errcode: 0, errmsg: "ok".to_owned(), rid: None, msgid }
    }

    #[test]
    fn the_msgid_is_read_to_its_last_digit() {
        let body = r#"{"errcode":0,"errmsg":"ok","msgid":1988810812324364291}"#;
        assert_eq!(read(body), success(Some(1_988_810_812_324_364_291)));
        let quoted = r#"{"errcode":0,"errmsg":"ok","msgid":"3248682510344192008"}"#;
        assert_eq!(read(quoted), success(Some(3_248_682_510_344_192_008)));
    }

    #[test]
    fn a_strange_or_missing_msgid_leaves_a_success_a_success() {
        for body in [
            r#"{"errcode":0,"errmsg":"ok"}"#,
            r#"{"errmsg":"ok"}"#,
            r#"{"errcode":"0","errmsg":"ok","msgid":-1.5}"#,
        ] {
            assert_eq!(read(body), success(None), "{body}");
        }
    }

    #[test]
    fn the_request_id_is_parted_from_the_text() {
        let body = r#"{"errcode":43101,"errmsg":"user refuse to accept the msg rid: 60b9-5f3a"}"#;
        let expected = SendAnswer::Read {
            errcode: 43101,
            errmsg: "user refuse to accept the msg".to_owned(),
            rid: Some("60b9-5f3a".to_owned()),
            msgid: None,
        };
        assert_eq!(read(body), expected);
    }

    #[test]
    fn what_is_not_an_answer_is_unreadable() {
        for body in ["", "<html>", "[]", "{}", r#"{"errcode":"x","errmsg":"ok"}"#, r#"{"errmsg":"busy"}"#] {
            assert_eq!(read(body), SendAnswer::Unreadable, "{body}");
        }
    }
}

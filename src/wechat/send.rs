//! `subscribe/send`: one message to one openid (docs/WECHAT.md#sending-a-subscribe-message).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{AccessToken, Client, RequestError};
use crate::domain::answer::{SendAnswer, split_errmsg};
use crate::domain::ids::{Openid, TemplateId};

/// One subscribe message, borrowed from its event.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub openid: &'a Openid,
    pub template_id: &'a TemplateId,
    /// Page that a tap opens; without one the card cannot be tapped.
    pub page: Option<&'a str>,
    /// The `data` object, passed on byte by byte.
    pub data: &'a RawValue,
    /// `formal`, `trial` or `developer`.
    pub miniprogram_state: &'a str,
    /// `zh_CN`, `en_US`, `zh_HK` or `zh_TW`.
    pub lang: &'a str,
}

impl Client {
    /// Asks WeChat to bring one message to one openid. Never fails: whatever becomes of the request is an answer.
    pub async fn send(&self, token: &AccessToken, message: &Message<'_>) -> SendAnswer {
        let url = token.send_url(&self.send_url);
        match self.exchange(self.http.post(url).json(&Body::of(message))).await {
            Ok(body) => read_answer(&body),
            Err(error) => error.into(),
        }
    }
}

/// The request's body. Everything optional is always said but the page, which has no neutral value.
#[derive(Serialize)]
struct Body<'a> {
    touser: &'a str,
    template_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<&'a str>,
    data: &'a RawValue,
    miniprogram_state: &'a str,
    lang: &'a str,
}

impl<'a> Body<'a> {
    fn of(message: &Message<'a>) -> Self {
        Self {
            touser: message.openid.as_str(),
            template_id: message.template_id.as_str(),
            page: message.page,
            data: message.data,
            miniprogram_state: message.miniprogram_state,
            lang: message.lang,
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

/// What stands in the answer. Values of a surprising type must not make a success unreadable, so they are read late.
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

    #[test]
    fn a_message_is_written_as_the_documents_say() {
        let openid = Openid::parse("oABC").unwrap();
        let template_id = TemplateId::parse("tmpl").unwrap();
        let data: Box<RawValue> =
            RawValue::from_string(r#"{"thing2":{"value":"广州至北京"}}"#.to_owned()).unwrap();
        let message = Message {
            openid: &openid,
            template_id: &template_id,
            page: None,
            data: &data,
            miniprogram_state: "formal",
            lang: "zh_CN",
        };
        let body = serde_json::to_string(&Body::of(&message)).unwrap();
        assert_eq!(
            body,
            r#"{"touser":"oABC","template_id":"tmpl","data":{"thing2":{"value":"广州至北京"}},"miniprogram_state":"formal","lang":"zh_CN"}"#
        );
    }
}

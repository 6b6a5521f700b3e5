//! A mini program's subscribe message: where it goes, what it carries, who may get it, what WeChat can answer.

use serde::Serialize;
use serde_json::value::RawValue;

use super::message::Message;
use crate::domain::answer::{Class, ErrorCode, code};
use crate::domain::consent::{ClosingCause, Finding, Refusal};
use crate::domain::outcome::SkipReason;

/// `subscribeMessage.send` (docs/WECHAT.md#sending-a-subscribe-message).
pub const PATH: &str = "/cgi-bin/message/subscribe/send";

/// Everything optional is always said but the page, which has no neutral value.
#[derive(Serialize)]
pub struct Body<'a> {
    touser: &'a str,
    template_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<&'a str>,
    data: &'a RawValue,
    miniprogram_state: &'a str,
    lang: &'a str,
}

impl<'a> Body<'a> {
    pub fn of(message: &Message<'a>) -> Self {
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

/// Only a user who accepted the template gets it, and one who did so for single sends only as often. `docs/CONSENT.md` has the
/// same table for those who write the records.
pub const VERDICTS: &[(Finding, Result<(), SkipReason>)] = &[
    (Finding::Unbound, Err(SkipReason::NotBound)),
    (Finding::Disabled, Err(SkipReason::Disabled)),
    (Finding::NoneLeft, Err(SkipReason::QuotaUsed)),
    (Finding::Accepts, Ok(())),
    (Finding::ClosedAs(ClosingCause::Refused), Err(SkipReason::Rejected)),
    (Finding::ClosedAs(ClosingCause::UsedUp), Err(SkipReason::QuotaUsed)),
    (Finding::ClosedAs(ClosingCause::BadOpenid), Err(SkipReason::BadOpenid)),
    // Whatever the count says: WeChat's refusal sets it to 0, and the user's no is not a used-up quota.
    (Finding::Rejects, Err(SkipReason::Rejected)),
    (Finding::Banned, Err(SkipReason::Banned)),
    (Finding::Anything, Err(SkipReason::NotSubscribed)),
];

/// What WeChat answers to a subscribe message alone (docs/WECHAT.md#error-codes-of-a-send).
pub const CODES: &[ErrorCode] = &[
    code(
        40003,
        Class::Recipient(Refusal::BadOpenid),
        "no such openid in this app",
        "check which app the user was bound through",
    ),
    code(
        40037,
        Class::Template,
        "no such template in this app, or one of another kind",
        "compare the template id with those of the mini program in WeChat's console (mp.weixin.qq.com, 订阅消息)",
    ),
    code(40165, Class::Content, "invalid page", "publish with a page that the mini program has"),
    code(
        41030,
        Class::Content,
        "the released version has no such page",
        "release the page, or publish with another",
    ),
    code(
        43101,
        Class::Recipient(Refusal::NoConsent),
        "the user has no open subscription to the template",
        "nothing: only the user can subscribe again",
    ),
    code(
        43107,
        Class::Template,
        "subscribe messages, or this template, are banned for the app",
        "look for a notice in the console",
    ),
    code(43108, Class::Conflict, "another send to the same user is in flight", "nothing: it is retried"),
    code(
        45168,
        Class::Content,
        "the text contains sensitive words",
        "change the text and publish a new event",
    ),
    code(
        47003,
        Class::Content,
        "a parameter's value is not allowed",
        "change the field that the text names; WeChat's console (mp.weixin.qq.com, 订阅消息) shows what it accepts",
    ),
    code(
        85107,
        Class::Content,
        "listed once without a text; treated as permanent",
        "look at the text, and replay if the cause is over",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::{MessageKind, class_of};
    use super::*;
    use crate::domain::consent::{Answer, Consent, User};
    use crate::domain::ids::{Openid, TemplateId};

    /// Read from the documents a second time, code by code, so that a class that changes in the table is noticed here.
    const EXPECTED: &[(Class, &[i64])] = &[
        (Class::Recipient(Refusal::BadOpenid), &[40003]),
        (Class::Recipient(Refusal::NoConsent), &[43101]),
        (Class::Template, &[40037, 43107]),
        (Class::Content, &[40165, 41030, 45168, 47003, 85107]),
        (Class::Conflict, &[43108]),
    ];

    #[test]
    fn every_documented_code_has_its_class() {
        for (class, errcodes) in EXPECTED {
            for errcode in *errcodes {
                assert_eq!(class_of(*errcode), *class, "{errcode}");
            }
        }
        let expected: usize = EXPECTED.iter().map(|(_, errcodes)| errcodes.len()).sum();
        assert_eq!(CODES.len(), expected, "a code of the table is not expected by any test");
    }

    #[test]
    fn only_an_accept_with_sends_left_lets_a_message_through() {
        let verdict = |status, cause, remaining| {
            let consent = Consent { answer: Answer::parse(Some(status), cause), remaining };
            MessageKind::Subscribe.verdict(Some(User { active: true, consent }))
        };
        assert_eq!(verdict("accept", None, None), Ok(()));
        assert_eq!(verdict("acceptWithAudio", None, Some(1)), Ok(()));
        assert_eq!(verdict("accept", None, Some(0)), Err(SkipReason::QuotaUsed));
        assert_eq!(verdict("reject", None, None), Err(SkipReason::Rejected));
        assert_eq!(verdict("reject", None, Some(0)), Err(SkipReason::Rejected));
        assert_eq!(verdict("reject", Some("refused"), Some(0)), Err(SkipReason::Rejected));
        assert_eq!(verdict("reject", Some("sent"), Some(0)), Err(SkipReason::QuotaUsed));
        assert_eq!(verdict("reject", Some("bad_openid"), Some(0)), Err(SkipReason::BadOpenid));
        assert_eq!(verdict("ban", None, None), Err(SkipReason::Banned));
        assert_eq!(verdict("filter", None, None), Err(SkipReason::NotSubscribed));
        assert_eq!(verdict("whatever", None, None), Err(SkipReason::NotSubscribed));
    }

    #[test]
    fn every_consent_that_we_close_has_its_reason() {
        for closing in ClosingCause::ALL {
            let is_judged = VERDICTS.iter().any(|(finding, _)| *finding == Finding::ClosedAs(*closing));
            assert!(is_judged, "{closing:?} would count as the user's own no");
        }
    }

    #[test]
    fn the_manual_has_every_reason_and_every_cause() {
        let manual = include_str!("../../../docs/CONSENT.md");
        for (finding, verdict) in VERDICTS {
            if let Finding::ClosedAs(closing) = finding {
                let row = format!("\n| `{}` |", closing.as_str());
                assert!(manual.contains(&row), "docs/CONSENT.md lacks the cause {}", closing.as_str());
            }
            let of_the_record = !matches!(finding, Finding::Unbound | Finding::Disabled);
            if let Some(reason) = verdict.err().filter(|_| of_the_record) {
                assert!(manual.contains(&format!("`{reason}`")), "docs/CONSENT.md lacks the reason {reason}");
            }
        }
    }

    #[test]
    fn a_message_is_written_as_the_documents_say() {
        let openid = Openid::parse("oABC").unwrap();
        let template_id = TemplateId::parse("tmpl").unwrap();
        let data = RawValue::from_string(r#"{"thing2":{"value":"广州至北京"}}"#.to_owned()).unwrap();
        let message = Message {
            openid: &openid,
            template_id: &template_id,
            page: None,
            data: &data,
            miniprogram_state: "formal",
            lang: "zh_CN",
        };
        assert_eq!(
            serde_json::to_string(&Body::of(&message)).unwrap(),
            r#"{"touser":"oABC","template_id":"tmpl","data":{"thing2":{"value":"广州至北京"}},"miniprogram_state":"formal","lang":"zh_CN"}"#
        );
    }
}

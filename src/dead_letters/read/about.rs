//! What a message is about, by its body, which may be anything.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::sanitize::sanitized;
use crate::domain::dead_letter::About;

/// Reads an event, or a delivery message with an event inside; an unreadable body gives nothing. Texts are fit for the database.
pub fn about(body: &[u8], message_id: Option<&str>) -> About {
    let body = String::from_utf8_lossy(body);
    let outer: Wire<'_> = serde_json::from_str(&body).unwrap_or_default();
    let Some(address) = outer.recipient.filter(|_| outer.event.is_some()) else {
        return about_event(&outer, message_id);
    };
    let event: Wire<'_> =
        outer.event.and_then(|event| serde_json::from_str(event.get()).ok()).unwrap_or_default();
    let address: Address<'_> = serde_json::from_str(address.get()).unwrap_or_default();
    let (openid, sys_user_id) = (text(address.openid), text(address.sys_user_id));
    let event_id = text(outer.event_id);
    About {
        recipient: Some(ledger_key(openid.as_deref(), sys_user_id.as_deref())),
        openid,
        sys_user_id,
        ..about_event(&event, event_id.as_deref())
    }
}

fn about_event(event: &Wire<'_>, event_id: Option<&str>) -> About {
    About {
        company_no: text(event.company_no),
        app_id: text(event.app_id),
        template_id: text(event.template_id),
        event_id: text(event.event_id).or_else(|| event_id.filter(|id| is_whole(id)).map(sanitized)),
        ..About::default()
    }
}

/// The fields of an event and of a delivery message that interest here. Raw, because one that is damaged must not hide the others,
/// and because skipping over a value takes no recursion, however deep it is.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire<'a> {
    #[serde(borrow)]
    company_no: Option<&'a RawValue>,
    #[serde(borrow)]
    app_id: Option<&'a RawValue>,
    #[serde(borrow)]
    template_id: Option<&'a RawValue>,
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow)]
    recipient: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Address<'a> {
    #[serde(borrow)]
    openid: Option<&'a RawValue>,
    #[serde(borrow)]
    sys_user_id: Option<&'a RawValue>,
}

/// An id that lost bytes, since they were not UTF-8, is nobody's: another may look the same.
fn is_whole(id: &str) -> bool {
    !id.contains(char::REPLACEMENT_CHARACTER)
}

fn text(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str::<String>(raw?.get())
        .ok()
        .map(|text| sanitized(&text))
        .filter(|text| !text.is_empty())
}

/// As `Recipient::ledger_key`, over texts that were not checked.
fn ledger_key(openid: Option<&str>, sys_user_id: Option<&str>) -> String {
    match (openid, sys_user_id) {
        (Some(openid), _) => openid.to_owned(),
        (None, Some(user)) => format!("@{user}"),
        (None, None) => String::new(),
    }
}

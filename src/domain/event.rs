//! What one message from a business system says.
//!
//! [`Event::decode`] is the border: text from outside comes in, and what comes out is trusted. The body is split into
//! raw fields in one pass ([`wire`]), each field is read by its own small reader ([`read`]), and what a publisher got
//! wrong is told by the name of the field ([`Malformed`]).

mod content;
mod malformed;
mod read;
mod wire;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::ids::{AppId, CompanyNo, CustomerId, EventId, Openid, SysUserId, TemplateId};
use super::message_kind::MessageKind;
use super::protocol::OnUnknown;
pub use content::ContentHash;
pub use malformed::Malformed;
pub(super) use read::{id, instant, optional, required};
use wire::Wire;
pub(super) use wire::{not_split, object};

/// A checked event. Everything inside is trusted from here on.
#[derive(Debug)]
pub struct Event {
    /// What kind of message it becomes. Always `Subscribe` so far: no field of the event chooses it.
    pub kind: MessageKind,
    pub event_id: EventId,
    pub company_no: CompanyNo,
    pub app_id: AppId,
    pub template_id: TemplateId,
    /// Narrows the rules to one customer.
    pub customer_id: Option<CustomerId>,
    /// Who is asked: the rules, or the event itself.
    pub audience: Audience,
    /// Page of the mini program that a tap opens.
    pub page: Option<String>,
    /// The `data` object exactly as it goes to WeChat: keys sorted, `{"key":{"value":"text"}}`, raw UTF-8.
    pub data: Box<RawValue>,
    /// Hash of data and page: tells a duplicate from a reused event id.
    pub content_hash: ContentHash,
    pub miniprogram_state: Option<String>,
    pub lang: Option<String>,
    /// When it happened, by the publisher's word.
    pub occurred_at: Option<Timestamp>,
    /// Not to be sent before.
    pub deliver_after: Option<Timestamp>,
    /// Not to be sent after; filled in from the default time to live where the publisher is silent.
    pub expires_at: Timestamp,
    /// The event's own policy for unknown outcomes; `None` leaves it to the configuration.
    pub on_unknown: Option<OnUnknown>,
}

/// Who says which people an event is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// The event gives no list: the rules decide.
    Rules,
    /// The event gives a list, which replaces the rules even where it is empty.
    Named { sys_user_ids: Vec<SysUserId>, openids: Vec<Openid> },
}

impl Audience {
    /// An empty list is a list. A publisher whose own query found nobody must not reach everybody.
    fn of(sys_user_ids: Option<Vec<SysUserId>>, openids: Option<Vec<Openid>>) -> Self {
        match (sys_user_ids, openids) {
            (None, None) => Self::Rules,
            (sys_user_ids, openids) => Self::Named {
                sys_user_ids: sys_user_ids.unwrap_or_default(),
                openids: openids.unwrap_or_default(),
            },
        }
    }

    /// Do the rules say who gets the event?
    pub const fn is_by_rule(&self) -> bool {
        matches!(self, Self::Rules)
    }

    /// The business users that the event names.
    pub fn sys_user_ids(&self) -> &[SysUserId] {
        match self {
            Self::Rules => &[],
            Self::Named { sys_user_ids, .. } => sys_user_ids,
        }
    }

    /// The WeChat users that the event names.
    pub fn openids(&self) -> &[Openid] {
        match self {
            Self::Rules => &[],
            Self::Named { openids, .. } => openids,
        }
    }
}

/// What is known about a message besides its body.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// AMQP's `message_id`: stands in for a missing `event_id`.
    pub message_id: Option<&'a str>,
    /// AMQP's `timestamp`.
    pub timestamp: Option<Timestamp>,
    /// When this message was first seen by a process of ours.
    pub first_seen: Timestamp,
    /// How long an event that names no end stays worth sending.
    pub default_ttl: Duration,
}

impl Arrival<'_> {
    /// The end of an event that names none: counted from when it happened, as near as anybody can tell.
    fn default_expiry(&self, occurred_at: Option<Timestamp>) -> Timestamp {
        let start = occurred_at.or(self.timestamp).unwrap_or(self.first_seen);
        start.checked_add(self.default_ttl).unwrap_or(Timestamp::MAX)
    }
}

impl Event {
    /// Reads and checks a message body. Unknown fields are tolerated; `null` counts as absent.
    pub fn decode(body: &[u8], arrival: &Arrival<'_>) -> Result<Self, Malformed> {
        let event = Self::decode_accepted(body, arrival)?;
        event.can_be_in_time()?;
        Ok(event)
    }

    /// The same for an event that was taken in before: what newer releases refuse about an event as a whole must not end a
    /// delivery that is on its way.
    pub fn decode_accepted(body: &[u8], arrival: &Arrival<'_>) -> Result<Self, Malformed> {
        let wire = Wire::split(body)?;
        let content = required(wire.data, "data", content::normalised)?;
        let page = optional(wire.page, "page", read::page)?.filter(|page| !page.is_empty());
        let occurred_at = optional(wire.occurred_at, "occurred_at", instant)?;
        let expires_at = optional(wire.expires_at, "expires_at", instant)?;

        Ok(Self {
            kind: MessageKind::Subscribe,
            event_id: event_id(wire.event_id, arrival.message_id)?,
            company_no: required(wire.company_no, "company_no", id)?,
            app_id: required(wire.app_id, "app_id", id)?,
            template_id: required(wire.template_id, "template_id", id)?,
            customer_id: optional(wire.customer_id, "customer_id", id)?,
            audience: Audience::of(
                optional(wire.sys_user_ids, "sys_user_ids", read::ids)?,
                optional(wire.openids, "openids", read::ids)?,
            ),
            content_hash: content::hash(&content, page.as_deref()),
            page,
            data: content,
            miniprogram_state: optional(wire.miniprogram_state, "miniprogram_state", read::state)?,
            lang: optional(wire.lang, "lang", read::lang)?,
            occurred_at,
            deliver_after: optional(wire.deliver_after, "deliver_after", instant)?,
            expires_at: expires_at.unwrap_or_else(|| arrival.default_expiry(occurred_at)),
            on_unknown: optional(wire.on_unknown, "on_unknown", read::on_unknown)?,
        })
    }
}

impl Event {
    /// What to do where nobody can know whether a message went out; `default` is the installation's wish.
    pub fn on_unknown(&self, default: OnUnknown) -> OnUnknown {
        self.kind.allowed_on_unknown(self.on_unknown.unwrap_or(default))
    }

    /// Due only when it is over, it would wait and then be skipped; its publisher would never know.
    fn can_be_in_time(&self) -> Result<(), Malformed> {
        match self.deliver_after {
            Some(due) if due >= self.expires_at => Err(Malformed::at(
                "deliver_after",
                format!("is not before the event's end ({}), which `expires_at` sets", self.expires_at),
            )),
            _ => Ok(()),
        }
    }
}

fn event_id(raw: Option<&RawValue>, message_id: Option<&str>) -> Result<EventId, Malformed> {
    match (optional(raw, "event_id", id)?, message_id) {
        (Some(event_id), _) => Ok(event_id),
        (None, None) => Err(Malformed::at("event_id", "is missing, and so is the message_id")),
        // Two ids whose bytes were lost may look the same, and one of the events would pass for the other.
        (None, Some(message_id)) if message_id.contains(char::REPLACEMENT_CHARACTER) => Err(Malformed::at(
            "event_id",
            "is missing, and parts of the message_id are lost (it is not UTF-8)",
        )),
        (None, Some(message_id)) => EventId::parse(message_id).map_err(|invalid| {
            Malformed::at("event_id", format!("is missing, and the message_id {invalid}"))
        }),
    }
}

#[cfg(test)]
mod tests;

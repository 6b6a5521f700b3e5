//! What one message from a business system says.

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::ids::{AppId, CompanyNo, CustomerId, EventId, Openid, SysUserId, TemplateId};
use super::protocol::OnUnknown;

/// A checked event. Everything inside is trusted from here on.
#[derive(Debug)]
pub struct Event {
    pub event_id: EventId,
    pub company_no: CompanyNo,
    pub app_id: AppId,
    pub template_id: TemplateId,
    /// Narrows the rules to one customer.
    pub customer_id: Option<CustomerId>,
    /// Replaces the rules: these business users.
    pub sys_user_ids: Vec<SysUserId>,
    /// Replaces the rules: these WeChat users.
    pub openids: Vec<Openid>,
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

/// First 16 bytes of a SHA-256: enough to tell two contents apart, small enough for five million rows.
pub type ContentHash = [u8; 16];

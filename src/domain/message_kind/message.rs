//! What a message says, whatever its kind.

use serde_json::value::RawValue;

use crate::domain::ids::{Openid, TemplateId};

/// One message to one user, borrowed from its event.
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

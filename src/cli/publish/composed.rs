//! An event composed from options.

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Map, Value, json};

#[derive(Debug, Args)]
pub struct Composed {
    /// The publisher's id of the event
    #[arg(long, value_name = "ID", requires_all = ["company", "app_id", "template_id", "data"])]
    event_id: Option<String>,
    /// The event's company
    #[arg(long, value_name = "COMPANY_NO", requires = "event_id")]
    company: Option<String>,
    /// The app to send from
    #[arg(long, value_name = "APPID", requires = "event_id")]
    app_id: Option<String>,
    /// The template of the message
    #[arg(long, value_name = "TEMPLATE", requires = "event_id")]
    template_id: Option<String>,
    /// A parameter of the template
    #[arg(long, value_name = "KEY=VALUE", requires = "event_id", value_parser = pair)]
    data: Vec<(String, String)>,
    /// Only rules for this customer, and those for all
    #[arg(long, value_name = "CUSTOMER_ID", requires = "event_id")]
    customer: Option<String>,
    /// Send to these business users instead of asking the rules
    #[arg(long, value_name = "USERS", value_delimiter = ',', requires = "event_id")]
    to_user: Vec<String>,
    /// Send to these WeChat users instead of asking the rules
    #[arg(long, value_name = "OPENIDS", value_delimiter = ',', requires = "event_id")]
    to_openid: Vec<String>,
    /// Page of the Mini Program that a tap opens
    #[arg(long, requires = "event_id")]
    page: Option<String>,
    /// Do not send before this time (RFC 3339)
    #[arg(long, value_name = "TIME", requires = "event_id")]
    deliver_after: Option<String>,
    /// Do not send after this time (RFC 3339)
    #[arg(long, value_name = "TIME", requires = "event_id")]
    expires_at: Option<String>,
    /// What to do with an unknown outcome
    #[arg(long, requires = "event_id", value_parser = ["resend", "park"])]
    on_unknown: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("is not KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Composed {
    /// The event as JSON.
    pub fn body(&self) -> Result<Vec<u8>> {
        let data: Map<String, Value> =
            self.data.iter().map(|(key, value)| (key.clone(), json!({ "value": value }))).collect();
        let mut event = json!({
            "event_id": self.event_id,
            "company_no": self.company,
            "app_id": self.app_id,
            "template_id": self.template_id,
            "customer_id": self.customer,
            "sys_user_ids": self.to_user,
            "openids": self.to_openid,
            "data": data,
            "page": self.page,
            "deliver_after": self.deliver_after,
            "expires_at": self.expires_at,
            "on_unknown": self.on_unknown,
        });
        if let Some(event) = event.as_object_mut() {
            event.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
        }
        serde_json::to_vec(&event).context("cannot write the event as JSON")
    }
}

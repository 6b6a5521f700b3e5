//! The dead letter of a row that no message carries any more.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;

use crate::amqp::own;
use crate::db::dead_letters::{DeadLetter, Stranded};
use crate::domain::dead_letter::{self, DeliveryKey};
use crate::domain::delivery_message;
use crate::domain::event::Event;
use crate::domain::ids::{Openid, SysUserId};
use crate::domain::outcome::DeadReason;
use crate::domain::recipient::Recipient;

/// An event that somebody has kept: read, and byte for byte.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    pub event: &'a Event,
    pub body: &'a [u8],
}

impl Kept<'_> {
    /// Is the row about this event?
    pub fn is_of(&self, row: &Stranded) -> bool {
        let Event { company_no, app_id, template_id, event_id, content_hash, .. } = self.event;
        company_no.as_str() == row.company_no
            && app_id.as_str() == row.app_id
            && template_id.as_str() == row.template_id
            && event_id.as_str() == row.event_id
            && content_hash.as_slice() == row.content_hash
    }
}

/// The dead letter. The ledger keeps no content: without the event it has an empty body, says so, and cannot be replayed.
pub fn dead_letter_of_stranded(
    row: &Stranded,
    kept: Option<Kept<'_>>,
    said: &str,
    now: Timestamp,
) -> DeadLetter {
    let key = DeliveryKey {
        company_no: &row.company_no,
        app_id: &row.app_id,
        template_id: &row.template_id,
        event_id: &row.event_id,
        recipient: &row.recipient,
    };
    let reason = DeadReason::Stranded;
    let identity = dead_letter::identity(&key, row.epoch);
    let body = kept.map(|kept| delivery_message::encode(kept.body, kept.event, &recipient(row)));
    let errmsg = match body {
        Some(_) => said.to_owned(),
        None => format!("{said}; its event is not available, so it cannot be replayed"),
    };
    DeadLetter {
        headers: json!({
            own::VERSION: delivery_message::VERSION, own::EPOCH: row.epoch, own::STEP: 0, own::DEAD_LETTER: identity,
            own::REASON: reason.as_str(), own::DIED_AT: now.as_millisecond(), own::DETAIL: errmsg,
        }),
        identity,
        reason,
        class: None,
        errcode: None,
        errmsg: Some(errmsg),
        field: None,
        fingerprint: dead_letter::fingerprint(
            reason.as_str(),
            Some(&row.app_id),
            Some(&row.template_id),
            None,
            None,
        ),
        app_id: Some(row.app_id.clone()),
        template_id: Some(row.template_id.clone()),
        company_no: Some(row.company_no.clone()),
        event_id: Some(row.event_id.clone()),
        recipient: Some(row.recipient.clone()),
        openid: row.openid.clone(),
        sys_user_id: row.sys_user_id.clone(),
        epoch: Some(row.epoch),
        attempts: row.attempts,
        first_failed_at: Some(row.created_at),
        last_failed_at: Some(now),
        trace_id: row.trace_id.clone(),
        rid: None,
        token_generation: row.token_generation,
        body: body.map(Bytes::from).unwrap_or_default(),
    }
}

/// Our own words in the ledger; what they no longer say is nobody.
fn recipient(row: &Stranded) -> Recipient {
    let openid = row.openid.as_deref().and_then(|text| Openid::parse(text).ok());
    let sys_user_id = row.sys_user_id.as_deref().and_then(|text| SysUserId::parse(text).ok());
    match (openid, sys_user_id) {
        (Some(openid), sys_user_id) => Recipient::Bound { openid, sys_user_id },
        (None, Some(sys_user_id)) => Recipient::Unbound { sys_user_id },
        (None, None) => Recipient::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::event::Arrival;

    const BODY: &[u8] =
        br#"{"event_id":"e","company_no":"C","app_id":"wx1","template_id":"T","data":{"thing1":"x"}}"#;

    fn row(event: &Event) -> Stranded {
        Stranded {
            id: 1,
            company_no: "C".to_owned(),
            app_id: "wx1".to_owned(),
            template_id: "T".to_owned(),
            event_id: "e".to_owned(),
            recipient: "oA".to_owned(),
            openid: Some("oA".to_owned()),
            sys_user_id: None,
            epoch: 3,
            attempts: 2,
            trace_id: None,
            token_generation: None,
            content_hash: event.content_hash.to_vec(),
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn event(body: &[u8]) -> Event {
        let arrival = Arrival {
            message_id: None,
            timestamp: None,
            first_seen: Timestamp::UNIX_EPOCH,
            default_ttl: Duration::from_secs(60),
        };
        Event::decode(body, &arrival).unwrap()
    }

    #[test]
    fn with_its_event_the_dead_letter_is_a_delivery_message_and_without_it_says_so() {
        let event = event(BODY);
        let row = row(&event);
        let kept = Kept { event: &event, body: BODY };
        assert!(kept.is_of(&row));
        let dead_letter = dead_letter_of_stranded(&row, Some(kept), "closed", Timestamp::UNIX_EPOCH);
        let (carried, recipient) = delivery_message::decode(&dead_letter.body).unwrap();
        assert_eq!((carried.event_id.as_str(), recipient.ledger_key().as_str()), ("e", "oA"));
        assert_eq!(dead_letter.epoch, Some(3));

        let dead_letter = dead_letter_of_stranded(&row, None, "closed", Timestamp::UNIX_EPOCH);
        assert!(dead_letter.body.is_empty() && dead_letter.errmsg.unwrap().contains("cannot be replayed"));
    }

    #[test]
    fn another_content_is_another_event() {
        let row = row(&event(BODY));
        let other = String::from_utf8(BODY.to_vec()).unwrap().replace("\"x\"", "\"y\"");
        let event = event(other.as_bytes());
        assert!(!Kept { event: &event, body: other.as_bytes() }.is_of(&row));
    }
}

//! The dead letter of a row that no message carries any more.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;

use crate::amqp::{self, Headers, own};
use crate::db::dead_letters::{Received, Stranded};
use crate::db::ledger::browse::LedgerRow;
use crate::domain::dead_letter::{self, About, DeadLetter};
use crate::domain::delivery::DeliveryKey;
use crate::domain::delivery_message;
use crate::domain::event::Event;
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
    pub fn is_of(&self, stranded: &Stranded) -> bool {
        About::event(self.event) == event_of(&stranded.row)
            && self.event.content_hash.as_slice() == stranded.content_hash
    }
}

/// The dead letter. The ledger keeps no content: without the event it has an empty body, says so, and cannot be replayed.
pub fn dead_letter_of_stranded(
    stranded: &Stranded,
    kept: Option<Kept<'_>>,
    said: &str,
    now: Timestamp,
) -> Received {
    let row = &stranded.row;
    let about = About {
        recipient: Some(row.key.recipient.clone()),
        openid: row.openid.clone(),
        sys_user_id: row.sys_user_id.clone(),
        ..event_of(row)
    };
    // Our own words in the ledger; what they no longer say is nobody.
    let recipient = about.to_recipient().unwrap_or(Recipient::Nobody);
    let body = kept.map(|kept| delivery_message::encode(kept.body, kept.event, &recipient));
    let errmsg = match body {
        Some(_) => said.to_owned(),
        None => format!("{said}; its event is not available, so it cannot be replayed"),
    };
    let identity = dead_letter::identity(&row.key, row.epoch);
    let dead_letter = DeadLetter {
        errmsg: Some(errmsg),
        epoch: Some(row.epoch),
        attempts: row.attempts,
        first_failed_at: Some(row.created_at),
        last_failed_at: Some(now),
        trace_id: row.trace_id.clone(),
        token_generation: stranded.token_generation,
        ..DeadLetter::new(identity, DeadReason::Stranded, about)
    };
    let headers = json!(headers(&dead_letter));
    Received { dead_letter, body: body.map(Bytes::from).unwrap_or_default(), headers }
}

fn event_of(row: &LedgerRow) -> About {
    let DeliveryKey { company_no, app_id, template_id, event_id, .. } = row.key.clone();
    About {
        company_no: Some(company_no),
        app_id: Some(app_id),
        template_id: Some(template_id),
        event_id: Some(event_id),
        ..About::default()
    }
}

/// As if the pipeline had published it.
fn headers(dead_letter: &DeadLetter) -> Headers {
    let mut headers = Headers::default();
    headers.set(own::VERSION, delivery_message::VERSION);
    headers.set(own::STEP, 0);
    amqp::dead_letter::write(dead_letter, &mut headers);
    headers
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::event::Arrival;

    const BODY: &[u8] =
        br#"{"event_id":"e","company_no":"C","app_id":"wx1","template_id":"T","data":{"thing1":"x"}}"#;

    fn stranded(event: &Event) -> Stranded {
        let row = LedgerRow {
            id: 1,
            key: DeliveryKey {
                company_no: "C".to_owned(),
                app_id: "wx1".to_owned(),
                template_id: "T".to_owned(),
                event_id: "e".to_owned(),
                recipient: "oA".to_owned(),
            },
            openid: Some("oA".to_owned()),
            sys_user_id: None,
            status: "retrying".to_owned(),
            reason: None,
            errcode: None,
            errmsg: None,
            rid: None,
            msgid: None,
            attempts: 2,
            unknowns: 0,
            epoch: 3,
            claimed_until: None,
            due_at: None,
            receipt: None,
            trace_id: None,
            created_at: Timestamp::UNIX_EPOCH,
            settled_at: None,
        };
        Stranded { row, token_generation: None, content_hash: event.content_hash.to_vec() }
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
        let stranded = stranded(&event);
        let kept = Kept { event: &event, body: BODY };
        assert!(kept.is_of(&stranded));
        let received = dead_letter_of_stranded(&stranded, Some(kept), "closed", Timestamp::UNIX_EPOCH);
        let (decoded, recipient) = delivery_message::decode(&received.body).unwrap();
        assert_eq!((decoded.event_id.as_str(), recipient.ledger_key().as_str()), ("e", "oA"));
        assert_eq!(received.dead_letter.epoch, Some(3));
        assert_eq!(received.headers["x-wn-reason"], "stranded");

        let received = dead_letter_of_stranded(&stranded, None, "closed", Timestamp::UNIX_EPOCH);
        let errmsg = received.dead_letter.errmsg.unwrap();
        assert!(received.body.is_empty() && errmsg.contains("cannot be replayed"));
    }

    #[test]
    fn another_content_is_another_event() {
        let stranded = stranded(&event(BODY));
        let other = String::from_utf8(BODY.to_vec()).unwrap().replace("\"x\"", "\"y\"");
        let event = event(other.as_bytes());
        assert!(!Kept { event: &event, body: other.as_bytes() }.is_of(&stranded));
    }
}

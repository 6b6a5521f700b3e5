//! A dead letter's facts as headers: the pipeline writes them, the archiver reads them back.
//!
//! What it is about is in the body, and the trace in `traceparent`, so neither is written again.

use jiff::Timestamp;

use super::header::{HeaderValue, Headers, TRACEPARENT};
use super::own;
use crate::domain::dead_letter::{About, CLASSES, DeadLetter};
use crate::domain::outcome::DeadReason;

/// Says in the headers why their message was given up. Headers of facts that are not known stay as they are.
pub fn write(dead_letter: &DeadLetter, headers: &mut Headers) {
    let number = |name, number: Option<i64>| Some((name, HeaderValue::from(number?)));
    let text = |name, text: Option<&str>| Some((name, HeaderValue::from(text?)));
    let DeadLetter { class, errcode, rid, field, token_generation, .. } = dead_letter;
    let facts = [
        text(own::DEAD_LETTER, Some(&dead_letter.identity)),
        text(own::REASON, Some(dead_letter.reason.as_str())),
        text(own::CLASS, class.as_deref()),
        number(own::ERRCODE, *errcode),
        text(if class.is_some() { own::ERRMSG } else { own::DETAIL }, dead_letter.errmsg.as_deref()),
        text(own::FIELD, field.as_deref()),
        number(own::EPOCH, dead_letter.epoch.map(i64::from)),
        number(own::ATTEMPTS, Some(dead_letter.attempts.into())),
        number(own::FIRST_FAILED, dead_letter.first_failed_at.map(Timestamp::as_millisecond)),
        number(own::DIED_AT, dead_letter.last_failed_at.map(Timestamp::as_millisecond)),
        text(own::RID, rid.as_deref()),
        number(own::TOKEN_GENERATION, *token_generation),
    ];
    for (name, value) in facts.into_iter().flatten() {
        headers.set(name, value);
    }
}

/// Reads the facts back; what is missing or strange stays empty. Any message can lie in the dead queue: one whose headers
/// [name no reason](reason) is `malformed`.
pub fn read(headers: &Headers, about: About) -> DeadLetter {
    let text = |name| headers.text(name).map(str::to_owned);
    DeadLetter {
        class: text(own::CLASS).filter(|word| CLASSES.contains(&word.as_str())),
        errcode: headers.number(own::ERRCODE),
        errmsg: text(own::ERRMSG).or_else(|| text(own::DETAIL)),
        field: text(own::FIELD),
        epoch: headers.number(own::EPOCH).and_then(|epoch| i32::try_from(epoch).ok()),
        attempts: headers.number(own::ATTEMPTS).map_or(0, |count| i32::try_from(count).unwrap_or(i32::MAX)),
        first_failed_at: time(headers, own::FIRST_FAILED),
        last_failed_at: time(headers, own::DIED_AT),
        trace_id: headers.text(TRACEPARENT).and_then(trace_id),
        rid: text(own::RID),
        token_generation: headers.number(own::TOKEN_GENERATION),
        ..DeadLetter::new(
            text(own::DEAD_LETTER).unwrap_or_default(),
            reason(headers).unwrap_or(DeadReason::Malformed),
            about,
        )
    }
}

/// The reason that the headers give. `None`: no process of ours has published the message as a dead letter.
pub fn reason(headers: &Headers) -> Option<DeadReason> {
    headers.text(own::REASON).and_then(DeadReason::parse)
}

/// Unix milliseconds, or RFC 3339, which people find easier to write.
fn time(headers: &Headers, name: &str) -> Option<Timestamp> {
    match headers.get(name)? {
        HeaderValue::Number(at_ms) => Timestamp::from_millisecond(*at_ms).ok(),
        HeaderValue::Text(text) => text.parse().ok(),
        _ => None,
    }
}

/// The trace's id out of W3C's `version-trace-span-flags`.
fn trace_id(traceparent: &str) -> Option<String> {
    traceparent.split('-').nth(1).filter(|id| id.len() == 32).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::option::of as maybe;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn any_time() -> impl Strategy<Value = Option<Timestamp>> {
        maybe((0..4_000_000_000_000_i64).prop_map(|at_ms| Timestamp::from_millisecond(at_ms).unwrap()))
    }

    fn any_about() -> impl Strategy<Value = About> {
        (maybe(any::<String>()), maybe(any::<String>())).prop_map(|(event_id, recipient)| About {
            event_id,
            recipient,
            ..About::default()
        })
    }

    prop_compose! {
        fn any_dead_letter()(
            identity in any::<String>(),
            reason in select(DeadReason::ALL),
            class in maybe(select(CLASSES)),
            texts in prop::array::uniform3(maybe(any::<String>())),
            numbers in (maybe(any::<i64>()), maybe(any::<i64>()), maybe(any::<i32>()), any::<i32>()),
            times in prop::array::uniform2(any_time()),
            trace_id in maybe("[0-9a-f]{32}"),
            about in any_about(),
        ) -> DeadLetter {
            let [errmsg, field, rid] = texts;
            let (errcode, token_generation, epoch, attempts) = numbers;
            let [first_failed_at, last_failed_at] = times;
            DeadLetter {
                identity, reason: reason.into(), class: class.map(str::to_owned), errcode, errmsg, field, about, epoch,
                attempts, first_failed_at, last_failed_at, trace_id, rid, token_generation,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(dead_letter in any_dead_letter()) {
            let mut headers = Headers::default();
            headers.set("tenant", "C001");
            if let Some(trace_id) = &dead_letter.trace_id {
                headers.set(TRACEPARENT, format!("00-{trace_id}-b7ad6b7169203331-01"));
            }
            write(&dead_letter, &mut headers);
            prop_assert_eq!(read(&headers, dead_letter.about.clone()), dead_letter);
            prop_assert_eq!(headers.text("tenant"), Some("C001"));
        }
    }

    #[test]
    fn the_words_are_wechats_where_it_has_answered_and_else_ours() {
        let mut dead_letter = DeadLetter::new("a".to_owned(), DeadReason::Content, About::default());
        dead_letter.errmsg = Some("words".to_owned());
        let mut headers = Headers::default();
        write(&dead_letter, &mut headers);
        assert_eq!((headers.text(own::DETAIL), headers.get(own::ERRMSG)), (Some("words"), None));

        dead_letter.class = Some("content".to_owned());
        let mut headers = Headers::default();
        write(&dead_letter, &mut headers);
        assert_eq!((headers.text(own::ERRMSG), headers.get(own::DETAIL)), (Some("words"), None));
    }

    #[test]
    fn a_dead_letter_of_the_release_before_is_read_by_the_former_names() {
        let mut headers = Headers::default();
        headers.set("x-wn-letter", "abc");
        headers.set("x-wn-turn", 2);
        headers.set(own::REASON, "content");
        headers.rename_former();
        let dead_letter = read(&headers, About::default());
        assert_eq!((dead_letter.identity.as_str(), dead_letter.epoch), ("abc", Some(2)));
    }
}

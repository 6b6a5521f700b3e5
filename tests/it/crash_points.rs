//! A crash at every arrow of the delivery protocol, for every kind of message that passes it: the daemon aborts there, a
//! second one takes over, and the books add up.
//!
//! The arrow's number says at which passage: what a fresh event passes first, its retried delivery passes second.

use serde_json::{Value, json};

use crate::support::{EventBody, Row, World, event};

/// What a crash may cost.
enum Toll {
    /// Nothing: the books knew all.
    Nothing,
    /// The row says that an outcome is unknown, but nothing had gone out.
    Unknown,
    /// One or the other: the archiver has the dead letter as soon as it is published, and the settlement is on its way by then.
    PerhapsUnknown,
    /// The message had gone out and nobody knew: the user gets it again.
    Double,
}

/// A message's way, undisturbed.
struct Story {
    /// Made when it is published: it may speak of the time.
    event: fn() -> EventBody,
    consent: Value,
    faults: Vec<Value>,
    end: &'static str,
    /// Messages that the user gets.
    messages: i64,
    dead_letters: &'static [&'static str],
}

macro_rules! crash_points {
    ($($story:ident { $($name:ident at $arrow:literal costs $toll:ident,)+ })+) => { $(
        mod $story {
            $(
                #[tokio::test]
                async fn $name() {
                    super::crash(super::$story(), $arrow, super::Toll::$toll).await;
                }
            )+
        }
    )+ };
}

crash_points! {
    fresh {
        received at "received" costs Nothing,
        planned at "planned" costs Nothing,
        ready at "ready" costs Nothing,
        claimed at "claimed" costs Unknown,
        requested at "requested" costs Double,
        answered at "answered" costs Double,
        settled at "settled" costs Nothing,
        before_ack at "before_ack" costs Nothing,
    }
    retried {
        deferred at "deferred" costs Unknown,
        deferred_settled at "settled" costs Nothing,
        deferred_before_ack at "before_ack" costs Nothing,
        received at "received:2" costs Nothing,
        ready at "ready:2" costs Nothing,
        claimed at "claimed:2" costs Unknown,
        requested at "requested:2" costs Double,
        answered at "answered:2" costs Double,
        settled at "settled:2" costs Nothing,
        before_ack at "before_ack:2" costs Nothing,
    }
    retried_twice {
        deferred at "deferred:2" costs Unknown,
        settled at "settled:2" costs Nothing,
        before_ack at "before_ack:2" costs Nothing,
    }
    put_off {
        planned at "planned" costs Nothing,
        due_recorded at "due_recorded" costs Nothing,
        before_ack at "before_ack" costs Nothing,
        received at "received:2" costs Nothing,
        ready at "ready" costs Nothing,
        claimed at "claimed" costs Unknown,
        requested at "requested" costs Double,
        settled at "settled" costs Nothing,
    }
    skipped {
        planned at "planned" costs Nothing,
        skip_recorded at "skip_recorded" costs Nothing,
        before_ack at "before_ack" costs Nothing,
    }
    refused {
        claimed at "claimed" costs Unknown,
        answered at "answered" costs Unknown,
        settled at "settled" costs Nothing,
        before_ack at "before_ack" costs Nothing,
    }
    doomed {
        answered at "answered" costs Unknown,
        dead_letter_published at "dead_letter_published" costs Unknown,
        settled at "settled" costs Nothing,
        before_ack at "before_ack" costs Nothing,
        archived at "archived" costs PerhapsUnknown,
    }
    doomed_on_retry {
        answered at "answered:2" costs Unknown,
        dead_letter_published at "dead_letter_published" costs Unknown,
        settled at "settled:2" costs Nothing,
        before_ack at "before_ack:2" costs Nothing,
        archived at "archived" costs PerhapsUnknown,
    }
    // Not before its ack: an unreadable message that is worked on twice leaves two dead letters, as nothing in it names it.
    malformed {
        received at "received" costs Nothing,
        archived at "archived" costs Nothing,
    }
}

/// Straight from the event to the user.
fn fresh() -> Story {
    Story {
        event: || event("pay-1"),
        consent: json!({"status": "accept"}),
        faults: Vec::new(),
        end: "sent",
        messages: 1,
        dead_letters: &[],
    }
}

/// WeChat is away once: the second attempt comes from the ladder.
fn retried() -> Story {
    Story { faults: vec![away(1)], ..fresh() }
}

fn retried_twice() -> Story {
    Story { faults: vec![away(2)], ..fresh() }
}

/// Due in a moment: round the ladder first, then sent.
fn put_off() -> Story {
    fn due_soon() -> EventBody {
        let soon = wechat_notifier::clock::now() + jiff::SignedDuration::from_secs(2);
        event("pay-1").with("deliver_after", soon.to_string())
    }
    Story { event: due_soon, ..fresh() }
}

/// The plan knows already that the user does not want it.
fn skipped() -> Story {
    Story { consent: json!({"status": "reject"}), end: "skipped:rejected", messages: 0, ..fresh() }
}

/// It is WeChat that says so.
fn refused() -> Story {
    Story { faults: vec![always(40003)], end: "skipped:bad_openid", messages: 0, ..fresh() }
}

/// WeChat finds the content bad: a dead letter.
fn doomed() -> Story {
    Story {
        faults: vec![always(47003)],
        end: "dead:content",
        messages: 0,
        dead_letters: &["content"],
        ..fresh()
    }
}

fn doomed_on_retry() -> Story {
    Story { faults: vec![away(1), always(47003)], ..doomed() }
}

/// No ledger row at all: the message itself becomes a dead letter.
fn malformed() -> Story {
    Story {
        event: || event("pay-1").with("data", 17),
        end: "",
        messages: 0,
        dead_letters: &["malformed"],
        ..fresh()
    }
}

/// A refusal that says when to come again goes to the ladder without a quick second request.
fn away(times: u32) -> Value {
    json!({"times": times, "match": {"path": "send"}, "action": {"http_status": 503, "headers": {"Retry-After": "0"}}})
}

fn always(errcode: i64) -> Value {
    json!({"match": {"path": "send"}, "action": {"errcode": errcode}})
}

/// Lets the story happen to a daemon that aborts at the arrow and to one that does not, and holds the toll against both.
async fn crash(story: Story, arrow: &str, toll: Toll) {
    let world = World::new().await;
    world.user_with("zhangsan", "o-zhang", &story.consent).await;
    world.rule(&["zhangsan"]).await;
    for fault in story.faults {
        world.wechat.fault(fault).await;
    }
    let mut first = world.daemon_with(&[("FAILPOINT", arrow)]).await;
    world.publish((story.event)()).await;
    first.aborted().await;

    let second = world.daemon().await;
    let row = if story.end.is_empty() { None } else { Some(world.ended("pay-1").await) };
    assert_eq!(world.dead_letters_when(story.dead_letters.len()).await, story.dead_letters);
    world.finish(second).await;

    let (unknowns, doubles) = match toll {
        Toll::Nothing => (0..=0, 0),
        Toll::Unknown => (1..=1, 0),
        Toll::PerhapsUnknown => (0..=1, 0),
        Toll::Double => (1..=1, 1),
    };
    let counted = world.conserved(["pay-1".to_owned()]).await;
    assert!(unknowns.contains(&counted), "{counted} outcomes counted as unknown");
    assert_eq!(world.wechat.doubles().await, doubles, "messages that went out twice");
    assert_eq!(world.wechat.got("o-zhang").await, story.messages + doubles);
    assert_eq!(row.map(|row: Row| row.end()).unwrap_or_default(), story.end);
    assert_eq!(world.dead_letters().await, story.dead_letters, "a dead letter was archived twice, or late");
}

/// Parked events are never sent again: the same crash leaves a dead letter, and a person decides.
#[tokio::test]
async fn a_parked_event_is_not_sent_again_after_a_crash() {
    for (arrow, messages) in [("claimed", 0), ("requested", 1)] {
        let world = World::new().await;
        world.user("zhangsan", "o-zhang").await;
        let mut first = world.daemon_with(&[("FAILPOINT", arrow)]).await;
        world.publish(event("pay-1").to(&["zhangsan"]).with("on_unknown", "park")).await;
        first.aborted().await;

        let second = world.daemon().await;
        assert_eq!(world.ended("pay-1").await.end(), "dead:unknown_outcome", "{arrow}");
        assert_eq!(world.dead_letters_when(1).await, ["unknown_outcome"]);
        world.finish(second).await;
        assert_eq!(world.conserved(["pay-1".to_owned()]).await, 1);
        assert_eq!(world.wechat.got("o-zhang").await, messages, "{arrow}");
    }
}

/// The one moment no crash point of ours can mark: WeChat has the request, we do not have the answer.
#[tokio::test]
async fn killed_while_wechat_has_the_request() {
    let world = World::new().await;
    world.user("zhangsan", "o-zhang").await;
    world.wechat.fault(json!({"times": 1, "match": {"path": "send"}, "action": {"delay_ms": 4_000}})).await;
    let mut first = world.daemon().await;
    world.publish(event("pay-1").to(&["zhangsan"])).await;
    world.wechat.requests_reach(1).await;
    first.kill();

    let second = world.daemon().await;
    assert_eq!(world.ended("pay-1").await.end(), "sent");
    world.finish(second).await;
    assert_eq!(world.conserved(["pay-1".to_owned()]).await, 1);
    assert!(world.wechat.got("o-zhang").await >= 1);
    assert_eq!(world.ledger().await[0].attempts, 1, "the request of the killed daemon was charged");
}

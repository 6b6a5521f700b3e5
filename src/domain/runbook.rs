//! The runbook: for each reason why something was given up, its cause, who fixes it, and what can safely be done.
//!
//! `dlq groups` and `dlq show` print it; docs/OPERATING.md has it under a heading each, and a test compares the two.

use super::outcome::DeadReason;

/// What to do about dead letters of one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Play {
    /// The most likely cause.
    pub cause: &'static str,
    /// Who can fix it.
    pub who: &'static str,
    /// What can be done without making it worse.
    pub action: &'static str,
}

/// The play for a reason; `class` is that of WeChat's last answer, where there was one.
pub fn of(reason: DeadReason, class: Option<&str>) -> Play {
    match reason {
        DeadReason::Malformed => MALFORMED,
        DeadReason::Oversized => OVERSIZED,
        DeadReason::UnknownApp => UNKNOWN_APP,
        DeadReason::WrongCompany => WRONG_COMPANY,
        DeadReason::EventIdReused => EVENT_ID_REUSED,
        DeadReason::Content => CONTENT,
        DeadReason::Template => TEMPLATE,
        DeadReason::Exhausted => EXHAUSTED,
        DeadReason::UnknownOutcome if class == Some("unknown") => UNANSWERED,
        DeadReason::UnknownOutcome => INTERRUPTED,
        DeadReason::DeliveryLimit => DELIVERY_LIMIT,
        DeadReason::Panicked => PANICKED,
        DeadReason::Stranded => STRANDED,
        DeadReason::Unreadable => UNREADABLE,
    }
}

/// Where the manual says more.
pub fn section(reason: DeadReason) -> String {
    format!("docs/OPERATING.md#reason-{reason}")
}

const MALFORMED: Play = Play {
    cause: "a business system published a message that is not an event; the field and the text say what is wrong",
    who: "the team that runs that system",
    action: "have it fixed there; replay what still matters with a corrected body, and resolve the rest",
};

const OVERSIZED: Play = Play {
    cause: "the message is larger than amqp.max_body",
    who: "the publisher, or the operator who sets amqp.max_body",
    action: "raise amqp.max_body and replay if such events are intended; otherwise resolve",
};

const UNKNOWN_APP: Play = Play {
    cause: "the event names an app that is not registered here: app add was forgotten, or the id is misspelt",
    who: "the operator who registers apps; for a misspelt id, the publisher",
    action: "register the app and replay; resolve events that name an app that does not exist",
};

const WRONG_COMPANY: Play = Play {
    cause: "the app belongs to another company than the event names",
    who: "the operator who registers apps, or the publisher",
    action: "correct the app with app set --company and replay; resolve events that the other company had no right to send",
};

const EVENT_ID_REUSED: Play = Play {
    cause: "two events with different content have the same id; the first was processed, this is the second",
    who: "the publisher",
    action: "do not replay it unchanged, it would be refused again; have it published under an id of its own, and resolve",
};

const CONTENT: Play = Play {
    cause: "WeChat refuses the value of a field: too long, not of the type that the template wants, or forbidden words",
    who: "the publisher; the code and the field say what is wrong",
    action: "have it fixed there; replay what still matters with a corrected body, and resolve the rest: unchanged it is refused again",
};

const TEMPLATE: Play = Play {
    cause: "WeChat does not know the template in this app, or has withdrawn it",
    who: "the app's owner, in WeChat's console",
    action: "compare the template id with the console; once it is valid, replay one dead letter, then the group",
};

const EXHAUSTED: Play = Play {
    cause: "WeChat, or the network to it, failed for longer than all retries last",
    who: "nobody, if it was an outage; for a code that is not documented, WeChat's support with the rid",
    action: "check that messages are sent again; replay one dead letter, then the group",
};

const UNANSWERED: Play = Play {
    cause: "WeChat's answers timed out or the connection broke, so nobody can know whether the message arrived",
    who: "the operator of the network to WeChat, if it continues",
    action: "replay only where a duplicate is better than no message; otherwise resolve",
};

const INTERRUPTED: Play = Play {
    cause: "a process died between request and answer, so nobody can know whether the message arrived",
    who: "the operator of the daemon: its log, or the system's, says why it died",
    action: "replay only where a duplicate is better than no message; otherwise resolve",
};

const DELIVERY_LIMIT: Play = Play {
    cause: "the broker gave up, for the reason in the text: redelivered too often without an ack, expired, or dropped by a policy",
    who: "the operator of the daemon (does it crash or run out of memory on this message?) or of the broker's policies",
    action: "look for the reason in the log first; replay one dead letter alone, then the rest if that worked",
};

const PANICKED: Play = Play {
    cause: "the daemon's own code failed on it, or PostgreSQL refused what it needs",
    who: "the maintainers of wechat-notifier: report it with the lines of the log around that time",
    action: "replay after a release that fixes it; one attempt may have reached the user",
};

const STRANDED: Play = Play {
    cause: "its last message was lost, by a purged queue or a restored broker, and an operator closed the delivery",
    who: "nobody: this is the end of a repair",
    action: "replay what is still useful",
};

const UNREADABLE: Play = Play {
    cause: "the archiver failed on this dead letter, or PostgreSQL refused a value in it; the text says which",
    who: "the maintainers of wechat-notifier: report it with the lines of the log around that time",
    action: "look at the body with dlq show --full; replay it with a corrected body if it still matters, otherwise resolve",
};

#[cfg(test)]
mod tests {
    use super::*;

    const MANUAL: &str = include_str!("../../docs/OPERATING.md");

    #[test]
    fn every_reason_has_a_heading_with_its_play() {
        for &reason in DeadReason::ALL {
            let said = under_heading(&format!("### Reason {reason}\n"));
            for play in [of(reason, None), of(reason, Some("unknown"))] {
                for words in [play.cause, play.who, play.action] {
                    assert!(said.contains(words), "docs/OPERATING.md, reason {reason}, lacks: {words}");
                }
            }
        }
    }

    #[test]
    fn every_heading_is_a_reason() {
        let headings = MANUAL.lines().filter_map(|line| line.strip_prefix("### Reason "));
        let words: Vec<_> = headings.collect();
        assert!(words.iter().all(|word| DeadReason::parse(word).is_some()), "{words:?}");
    }

    /// The text under a heading, as one line and without marks of code.
    fn under_heading(heading: &str) -> String {
        let (_, after) =
            MANUAL.split_once(heading).unwrap_or_else(|| panic!("docs/OPERATING.md lacks {heading}"));
        let section = after.split("\n#").next().unwrap_or_default();
        section.replace('`', "").split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

//! What becomes of a delivery, and the closed list of reasons.

use std::time::Duration;

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $word:literal, $meaning:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* #[doc = $meaning] $variant,)* }

        impl $name {
            /// Every reason, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The one spelling, used in the ledger, in metrics, on the command line and in the documents.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// What it means, in a sentence for people; what can be done about it where something can.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// Reads the spelling back.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

reasons! {
    /// Why nothing was sent although nothing is broken.
    SkipReason {
        NoRecipients => "no_recipients",
            "no rule matched this company, app, template and customer, or the event had an empty list";
        NotBound => "not_bound",
            "no WeChat user of the app was bound to this business user";
        Disabled => "disabled",
            "the user was disabled";
        AppDisabled => "app_disabled",
            "the app was disabled";
        NotSubscribed => "not_subscribed",
            "the user had not answered for this template";
        Rejected => "rejected",
            "the user had refused this template";
        Banned => "banned",
            "WeChat bans this template for the user";
        QuotaUsed => "quota_used",
            "the user's one-time sends were used up; the user has to accept again";
        BadOpenid => "bad_openid",
            "WeChat does not know the openid in this app: was the user bound in another app?";
        /// Past `expires_at`, or older than the default time to live.
        Expired => "expired",
            "it was past its expiry";
        /// WeChat refused a resend; the attempt whose outcome nobody knows may have used the consent up.
        RefusedAfterUnknown => "refused_after_unknown",
            "WeChat refused a second attempt; the first, without an answer, may have reached the user";
    }
}

reasons! {
    /// Why a delivery, or a whole message, was given up and kept as a dead letter.
    DeadReason {
        Malformed => "malformed",
            "the message is not an event";
        Oversized => "oversized",
            "the message is larger than amqp.max_body";
        UnknownApp => "unknown_app",
            "the app is not registered; `app add` registers it";
        WrongCompany => "wrong_company",
            "the app belongs to another company";
        EventIdReused => "event_id_reused",
            "the same event id was used before with other data or another page";
        Content => "content",
            "WeChat refuses the content; sending it again cannot help";
        Template => "template",
            "WeChat refuses the template";
        Exhausted => "exhausted",
            "all retries failed";
        UnknownOutcome => "unknown_outcome",
            "nobody can know whether it was sent, and on_unknown forbids another attempt";
        DeliveryLimit => "delivery_limit",
            "the broker gave up after too many redeliveries";
        /// Our own code panicked.
        Panicked => "panicked",
            "the daemon failed on it; please report this";
        Stranded => "stranded",
            "its message was lost, and an operator closed it";
        /// Our own code, or PostgreSQL, failed on the dead letter itself: it is kept raw.
        Unreadable => "unreadable",
            "the archiver failed on its dead letter, which is kept raw; please report this";
    }
}

/// Facts of WeChat's answer worth keeping in the ledger. Never the body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerFacts {
    /// WeChat's code, or none where no readable answer came.
    pub errcode: Option<i64>,
    /// WeChat's text, cut to a bounded length.
    pub errmsg: Option<String>,
    /// WeChat's request id, for `openapi/rid/get` (kept there for 7 days).
    pub rid: Option<String>,
    /// The field of `data` that WeChat objects to (47003).
    pub field: Option<String>,
}

/// What an attempt, or the lack of one, leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// WeChat took the message.
    Sent { msgid: Option<u64> },
    /// A normal end without a message.
    Skipped(SkipReason),
    /// Try again after this long; the ladder's steps up to `step` are then used.
    Retry { step: usize, after: Duration },
    /// Nobody can know whether it went out; goes once more by policy.
    Unknown,
    /// Defer without charging anything: the fault is the app's, not the delivery's.
    Uncharged,
    /// Give up and keep a dead letter.
    Dead(DeadReason),
}

//! What becomes of a delivery, and the closed list of reasons.

use std::time::Duration;

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every reason, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The one spelling, used in the ledger, in metrics, on the command line and in the documents.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
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
        /// No rule names anybody for this event, or its own list is empty.
        NoRecipients => "no_recipients",
        /// The business user or openid is not bound to the app.
        NotBound => "not_bound",
        /// The user's row is switched off.
        Disabled => "disabled",
        /// The app's row is switched off.
        AppDisabled => "app_disabled",
        /// The user never answered for this template.
        NotSubscribed => "not_subscribed",
        /// The user said no.
        Rejected => "rejected",
        /// The platform bans the template for this user.
        Banned => "banned",
        /// All one-time sends are used up.
        QuotaUsed => "quota_used",
        /// WeChat does not know the openid in this app.
        BadOpenid => "bad_openid",
        /// Past `expires_at`, or older than the default time to live.
        Expired => "expired",
        /// WeChat refused a resend; the attempt whose outcome nobody knows may have used the consent up.
        RefusedAfterUnknown => "refused_after_unknown",
    }
}

reasons! {
    /// Why a delivery, or a whole message, was given up and kept as a dead letter.
    DeadReason {
        /// The message is not an event.
        Malformed => "malformed",
        /// The message is larger than `amqp.max_body`.
        Oversized => "oversized",
        /// No such app is registered.
        UnknownApp => "unknown_app",
        /// The app belongs to another company.
        WrongCompany => "wrong_company",
        /// The same event id came before with other data or another page.
        EventIdReused => "event_id_reused",
        /// WeChat refuses the content; sending it again cannot help.
        Content => "content",
        /// WeChat refuses the template.
        Template => "template",
        /// Every step of the ladder was used.
        Exhausted => "exhausted",
        /// Nobody can know whether the message went out, and policy forbids another.
        UnknownOutcome => "unknown_outcome",
        /// The broker gave up after too many redeliveries.
        DeliveryLimit => "delivery_limit",
        /// Our own code panicked.
        Panicked => "panicked",
        /// The row had no delivery message left and an operator closed it.
        Stranded => "stranded",
        /// Our own code, or PostgreSQL, failed on the dead letter itself: it is kept raw.
        Unreadable => "unreadable",
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

//! Why an app, or one of its templates, is not sent to for a while; what it means, and what to do about it.
//!
//! The one table of it: the log, the command line and `docs/OPERATING.md` all say what this table says; a test compares.

macro_rules! pause_reasons {
    ($($(#[$doc:meta])* $variant:ident => $word:literal, $meaning:literal, $advice:literal;)*) => {
        /// Why nothing is sent. A closed list: it is a label of `wechat_notifier_app_paused`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum PauseReason { $($(#[$doc])* $variant,)* }

        impl PauseReason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The one spelling, in metrics, logs, tables and documents.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// Reads the spelling back.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }

            /// What has happened, as a clause.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// What a person can do about it, as a clause.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
            }
        }
    };
}

pause_reasons! {
    AppidWrong => "appid_wrong",
        "WeChat does not know this appid",
        "compare the appid with WeChat's console; an app that was added under a wrong id must be added again with `app add`";
    SecretWrong => "secret_wrong",
        "the app secret is wrong, or no longer valid",
        "set the current secret from WeChat's console with `app set --app-id … --secret-file …`";
    /// The stored secret or token is sealed, and our master key does not open it.
    SecretSealed => "secret_sealed",
        "the secret is sealed, and this daemon has no master key or a different one",
        "set `security.master_key_file` to the key that sealed it";
    /// The secret was frozen in the console; unfreezing takes ten minutes to take effect.
    SecretFrozen => "secret_frozen",
        "the secret was frozen in WeChat's console",
        "unfreeze it there; that takes ten minutes to take effect";
    /// Our address is not on the app's IP whitelist, or its administrator has not confirmed it yet.
    IpNotAllowed => "ip_not_allowed",
        "our address is not on the app's IP whitelist, or the app's administrator has not confirmed it yet",
        "add the address, as WeChat sees it, to the IP whitelist in WeChat's console, or ask the administrator to answer WeChat's confirmation request";
    /// The account lacks the ability, or has not granted it.
    NotAuthorised => "not_authorised",
        "the account lacks this permission, or has not granted it",
        "ask the app's owner to grant it in WeChat's console";
    /// The account, or this API for it, is banned, restricted or frozen.
    AppBanned => "app_banned",
        "the account, or this API for it, is banned, restricted or frozen",
        "ask the app's owner; the error text and WeChat's console say why";
    /// What reaches WeChat is not what we sent.
    ApiMisrouted => "api_misrouted",
        "requests do not reach WeChat as we sent them",
        "look for a proxy that changes them, or a wrong `wechat.api_base`";
    /// Good tokens, as far as the token endpoint knows, are refused again and again.
    TokenRejected => "token_rejected",
        "WeChat rejects a token that its own token endpoint has just confirmed",
        "look for another system that uses the same app with the other token API or another secret; `token refresh --app-id …` tries again";
    /// The token endpoint refuses a token.
    NoToken => "no_token",
        "the token endpoint refuses with a code that is not in our table",
        "look the code up in WeChat's documentation; the daemon tries again every minute";
    /// The day's calls are used up.
    Quota => "quota",
        "today's API calls are used up",
        "wait until midnight in Beijing. If WeChat's own count is used up, clear it in the console and use `app resume`; if the app's `daily_quota` is, raise it with `app set --daily-quota`, which takes effect within seconds";
    /// The minute's calls are used up.
    Throttled => "throttled",
        "this minute's API calls are used up",
        "nothing; sending resumes with the next minute";
    /// No good answer for a while, for any recipient.
    Away => "away",
        "for ten seconds no message to five or more users got through: WeChat, or the network to it, is down",
        "nothing, if WeChat is down; otherwise fix the network. One delivery tries every 5 s";
    /// WeChat refuses one template; the app's others are sent.
    Template => "template",
        "WeChat does not know this template in this app, or no longer allows it",
        "compare the template id with WeChat's console; a wrong one must be fixed by its publisher; \
         `app resume APPID --template …` tries at once";
    /// By an operator. Only an operator ends it.
    ByHand => "by_hand",
        "an operator paused it",
        "ask that operator, or lift the pause with `app resume`";
}

impl std::fmt::Display for PauseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

//! Why an app, or one of its templates, is not sent to for a while; what it means, and what to do about it.
//!
//! The one table of it: the log, the command line and `docs/OPERATING.md` all say what stands here; a test compares.

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
        "WeChat knows no such appid",
        "compare the appid with the console's; an app under a wrong id must be added anew with `app add`";
    SecretWrong => "secret_wrong",
        "the app secret is not, or no longer, right",
        "set the one that the console shows, with `app set --app-id … --secret-file …`";
    /// The stored secret or token is sealed, and our master key does not open it.
    SecretSealed => "secret_sealed",
        "the secret is sealed, and this daemon has no key or another one",
        "set `security.master_key_file` to the key that sealed it";
    /// The secret was frozen in the console; thawing takes ten minutes to act.
    SecretFrozen => "secret_frozen",
        "the secret was frozen in WeChat's console",
        "thaw it there; it takes ten minutes to act";
    /// Our address is not on the app's whitelist, or its administrator has yet to allow it.
    IpNotAllowed => "ip_not_allowed",
        "our address is not on the app's IP list, or its administrator has yet to allow it",
        "add the address, as WeChat sees it, to the list in the console, or ask the administrator to answer WeChat's question";
    /// The account lacks the ability, or has not granted it.
    NotAuthorised => "not_authorised",
        "the account lacks the ability, or has not granted it",
        "ask the app's owner, who can grant it in the console";
    /// The account, or this API for it, is banned, restricted or frozen.
    AppBanned => "app_banned",
        "the account, or this API for it, is banned, restricted or frozen",
        "ask the app's owner; WeChat's words say more, and the console says why";
    /// What reaches WeChat is not what we sent.
    ApiMisrouted => "api_misrouted",
        "what reaches WeChat is not what we sent",
        "look for a proxy in between, or a wrong `wechat.api_base`";
    /// Good tokens, as far as the token endpoint knows, are refused again and again.
    TokenRejected => "token_rejected",
        "WeChat rejects a token that its own token endpoint has just confirmed",
        "look for another system that uses the same app with another API or another secret; `token refresh --app-id …` asks again";
    /// No token can be had.
    NoToken => "no_token",
        "the token endpoint refuses with a code that we do not know",
        "look the code up in WeChat's documents; it is tried again every minute";
    /// The day's calls are used up.
    Quota => "quota",
        "the day's calls are used up",
        "wait until midnight in Beijing. WeChat's own count can be cleared in the console and the app resumed with `app resume`; the app's `daily_quota` can be raised with `app set --daily-quota`, which acts within seconds";
    /// The minute's calls are used up.
    Throttled => "throttled",
        "the minute's calls are used up",
        "nothing; it resumes with the next minute";
    /// No good answer for a while, whoever the message was for.
    Away => "away",
        "for ten seconds nobody of five users or more could be reached: WeChat, or the way to it, is down",
        "nothing, if WeChat is down; else mend the way to it. One delivery tries every 5 s";
    /// WeChat refuses one template; the app's others flow.
    Template => "template",
        "WeChat knows no such template in this app, or does not let it be used any more",
        "compare the template's id with the console's, and have whoever publishes with a wrong one mend that; \
         `app resume APPID --template …` tries at once";
    /// An operator said so. Only an operator ends it.
    ByHand => "by_hand",
        "somebody paused it by hand",
        "ask whoever did, or lift it with `app resume`";
}

impl std::fmt::Display for PauseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

//! The codes that mean the same at every endpoint of WeChat's: the token, the app and its account, the quota, the wire.

use std::ops::RangeInclusive;

use super::class::Class;
use crate::domain::pause::PauseReason::{
    ApiMisrouted, AppBanned, AppidWrong, IpNotAllowed, NotAuthorised, SecretFrozen, SecretWrong,
};

/// One code of WeChat's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode {
    pub errcode: i64,
    /// What it means after a send.
    pub class: Class,
    /// What happened, in a few words.
    pub meaning: &'static str,
    /// What a person can do about it.
    pub advice: &'static str,
}

/// Codes about the confirmation of our address by the app's administrator. Not all of them are listed anywhere.
pub(super) const IP_CONFIRMATION: RangeInclusive<i64> = 89_500..=89_599;

/// What is known about `errcode`: by the table of a kind of message, else by the common one. Both rise.
pub(in crate::domain) fn explain(errcode: i64, own: &'static [ErrorCode]) -> Option<&'static ErrorCode> {
    [own, COMMON_CODES].into_iter().find_map(|table| {
        table.binary_search_by_key(&errcode, |listed| listed.errcode).ok().map(|index| &table[index])
    })
}

/// The codes, in rising order.
pub const COMMON_CODES: &[ErrorCode] = &[
    code(-1, Class::Transient, "system busy", "nothing: it is retried"),
    code(0, Class::Sent, "accepted", "nothing"),
    code(
        40001,
        Class::Token,
        "the token is not valid, or not the newest; from a token endpoint: the secret is wrong",
        "look for another system that fetches this app's classic token; compare the secret with WeChat's console",
    ),
    code(
        40002,
        Class::AppFault(ApiMisrouted),
        "wrong grant_type",
        "check wechat.api_base and any proxy on the way: the daemon always sends the right one",
    ),
    code(40013, Class::AppFault(AppidWrong), "wrong appid", "compare the appid with WeChat's console"),
    code(
        40014,
        Class::Token,
        "malformed or invalid token",
        "look for another system that fetches this app's classic token",
    ),
    code(40125, Class::AppFault(SecretWrong), "wrong secret", "set the secret again with `app set`"),
    code(
        40164,
        Class::AppFault(IpNotAllowed),
        "our address is not on the IP whitelist",
        "add the address that the text names to the app's IP whitelist",
    ),
    code(
        40243,
        Class::AppFault(SecretFrozen),
        "the secret is frozen",
        "unfreeze it in the console; that takes ten minutes to take effect",
    ),
    code(41001, Class::Token, "no token was sent", "nothing: it is sent again with a token"),
    code(
        41002,
        Class::AppFault(AppidWrong),
        "no appid was sent",
        "check the app's row and any proxy on the way",
    ),
    code(41004, Class::AppFault(SecretWrong), "no secret was sent", "set the secret with `app set`"),
    code(42001, Class::Token, "the token has expired", "nothing: a newer one is fetched"),
    code(
        43002,
        Class::AppFault(ApiMisrouted),
        "POST required",
        "check wechat.api_base for a redirect, and any proxy on the way",
    ),
    code(43003, Class::AppFault(ApiMisrouted), "HTTPS required", "set wechat.api_base to an https address"),
    code(44002, Class::Content, "the body arrived empty", "check any proxy on the way, then replay"),
    code(
        45009,
        Class::Quota,
        "today's API calls are used up",
        "wait for the next day, or clear the quota in the console",
    ),
    code(
        45011,
        Class::Throttled,
        "too many calls this minute",
        "nothing: sending resumes next minute; lower rate_per_second if it happens often",
    ),
    code(
        47001,
        Class::Content,
        "WeChat cannot parse the body as JSON",
        "report it with the dead letter's body",
    ),
    code(47002, Class::Content, "the body holds escaped text", "report it with the dead letter's body"),
    code(
        48001,
        Class::AppFault(NotAuthorised),
        "the app has no permission for this API",
        "check the app's permissions in the console; test accounts have none",
    ),
    code(
        48004,
        Class::AppFault(AppBanned),
        "this API is banned for the app",
        "look for a notice in the console",
    ),
    code(50002, Class::AppFault(AppBanned), "the account is restricted", "look for a notice in the console"),
    code(
        50004,
        Class::AppFault(AppBanned),
        "the token API is forbidden to the account",
        "look for a notice in the console",
    ),
    code(50007, Class::AppFault(AppBanned), "the account is frozen", "look for a notice in the console"),
    code(
        61003,
        Class::AppFault(NotAuthorised),
        "the app has not authorised the platform",
        "have the app's owner authorise it again",
    ),
    code(
        61004,
        Class::AppFault(IpNotAllowed),
        "our address is not on the platform's IP whitelist",
        "add our address to the whitelist",
    ),
    code(
        61007,
        Class::AppFault(NotAuthorised),
        "the platform lacks permission for this API",
        "have the app's owner grant permission set 18",
    ),
    code(
        89501,
        Class::AppFault(IpNotAllowed),
        "a confirmation of our address is pending",
        "ask the app's administrator to confirm it",
    ),
    code(
        89503,
        Class::AppFault(IpNotAllowed),
        "our address needs the administrator's confirmation",
        "ask the app's administrator to confirm it",
    ),
    code(
        89506,
        Class::AppFault(IpNotAllowed),
        "the administrator refused our address for 24 hours",
        "talk to the app's administrator",
    ),
    code(
        89507,
        Class::AppFault(IpNotAllowed),
        "the administrator refused our address for an hour",
        "talk to the app's administrator",
    ),
];

/// A line of a table of codes.
pub(in crate::domain) const fn code(
    errcode: i64,
    class: Class,
    meaning: &'static str,
    advice: &'static str,
) -> ErrorCode {
    ErrorCode { errcode, class, meaning, advice }
}

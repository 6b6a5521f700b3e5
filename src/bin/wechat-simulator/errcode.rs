//! WeChat's error codes and the words that come with them on the wire (docs/WECHAT.md).

use std::borrow::Cow;
use std::net::IpAddr;

use fastrand::Rng;

// The codes the simulator gives by itself; what each means is in the table below.
pub const SYSTEM_BUSY: i64 = -1;
pub const WRONG_VERB_FOR_TEMPLATES: i64 = 404;
pub const INVALID_CREDENTIAL: i64 = 40001;
pub const INVALID_GRANT_TYPE: i64 = 40002;
pub const INVALID_OPENID: i64 = 40003;
pub const INVALID_APPID: i64 = 40013;
pub const MALFORMED_TOKEN: i64 = 40014;
pub const INVALID_CODE: i64 = 40029;
pub const INVALID_TEMPLATE: i64 = 40037;
pub const INVALID_SECRET: i64 = 40125;
pub const CODE_USED: i64 = 40163;
pub const IP_NOT_ALLOWED: i64 = 40164;
pub const TOKEN_MISSING: i64 = 41001;
pub const APPID_MISSING: i64 = 41002;
pub const SECRET_MISSING: i64 = 41004;
pub const CODE_MISSING: i64 = 41008;
pub const TOKEN_EXPIRED: i64 = 42001;
pub const POST_REQUIRED: i64 = 43002;
pub const NOT_SUBSCRIBED: i64 = 43101;
pub const CONCURRENT_SEND: i64 = 43108;
pub const EMPTY_BODY: i64 = 44002;
pub const DAILY_QUOTA: i64 = 45009;
pub const MINUTE_QUOTA: i64 = 45011;
pub const NOT_JSON: i64 = 47001;
pub const INVALID_DATA: i64 = 47003;

/// What WeChat says beside each code. A code that is not here can still be answered by a fault rule.
const ERRMSGS: &[(i64, &str)] = &[
    (SYSTEM_BUSY, "system error"),
    (WRONG_VERB_FOR_TEMPLATES, "method not allowed"),
    (
        INVALID_CREDENTIAL,
        "invalid credential, access_token is invalid or not latest, could get access_token by \
         getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r",
    ),
    (INVALID_GRANT_TYPE, "invalid grant_type"),
    (INVALID_OPENID, "invalid openid"),
    (INVALID_APPID, "invalid appid"),
    (MALFORMED_TOKEN, "invalid access_token"),
    (INVALID_CODE, "invalid code"),
    (INVALID_TEMPLATE, "invalid template_id"),
    (INVALID_SECRET, "invalid appsecret"),
    (CODE_USED, "code been used"),
    (40165, "invalid weapp pagepath"),
    (40226, "code blocked"),
    (40243, "appsecret is frozen"),
    (TOKEN_MISSING, "access_token missing"),
    (APPID_MISSING, "appid missing"),
    (SECRET_MISSING, "appsecret missing"),
    (41030, "invalid page"),
    (CODE_MISSING, "missing code"),
    (TOKEN_EXPIRED, "access_token expired"),
    (POST_REQUIRED, "require POST method"),
    (NOT_SUBSCRIBED, "user refuse to accept the msg"),
    (43107, "subscribe message ability is banned"),
    (CONCURRENT_SEND, "Cannot make concurrent calls to the same OpenID, please try again"),
    (EMPTY_BODY, "empty post data"),
    (DAILY_QUOTA, "reach max api daily quota limit"),
    (MINUTE_QUOTA, "api minute-quota reach limit, must slower, retry next minute"),
    (45168, "sensitive words in the message"),
    (NOT_JSON, "data format error"),
    (
        47002,
        "data format error, do not use json unicode encode (\\uxxxx\\uxxxx), please use utf8 encoded text",
    ),
    (INVALID_DATA, "argument invalid! data.thing1.value invalid"),
    (48001, "api unauthorized"),
    (48004, "api forbidden for irregularities"),
    (50002, "user limited"),
    (50004, "forbid to use token interface"),
    (50007, "account frozen"),
    (61004, "access clientip is not registered"),
    (61007, "api is unauthorized to component"),
    (89501, "this ip is waiting for the confirmation of the administrator"),
    (89503, "this ip must be confirmed by the administrator"),
    (89506, "this ip was refused twice by the administrator, try again in 24 hours"),
    (89507, "this ip was refused by the administrator, try again in 1 hour"),
];

/// A "no" from WeChat: HTTP 200 with an errcode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub errcode: i64,
    /// The words before the rid.
    pub errmsg: Cow<'static, str>,
}

impl Refusal {
    /// The code with its usual words.
    pub fn of(errcode: i64) -> Self {
        let words = ERRMSGS.iter().find(|(code, _)| *code == errcode).map_or("error", |(_, words)| words);
        Self { errcode, errmsg: Cow::Borrowed(words) }
    }

    /// The code with words of the caller's choice.
    pub fn saying(errcode: i64, errmsg: String) -> Self {
        Self { errcode, errmsg: Cow::Owned(errmsg) }
    }

    /// 47003 names the first bad field only (docs/WECHAT.md#what-the-text-of-47003-says).
    pub fn bad_field(key: &str, complaint: &str) -> Self {
        Self::saying(INVALID_DATA, format!("argument invalid! data.{key}.value {complaint}"))
    }

    /// 40164 carries the address as WeChat saw it (docs/WECHAT.md#error-codes-of-the-token-endpoints).
    pub fn ip_not_allowed(ip: IpAddr) -> Self {
        Self::saying(IP_NOT_ALLOWED, format!("invalid ip {ip} ipv6 ::ffff:{ip}, not in whitelist"))
    }

    /// The body on the wire, with the trace suffix that WeChat appends to every errmsg.
    pub fn body(&self, now_ms: u64, rng: &mut Rng) -> String {
        let errmsg =
            format!("{} rid: {:08x}-{:08x}-{:08x}", self.errmsg, now_ms / 1_000, rng.u32(..), rng.u32(..));
        serde_json::json!({ "errcode": self.errcode, "errmsg": errmsg }).to_string()
    }
}

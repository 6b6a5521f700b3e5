//! Events to publish, and the people in the tables that they lead to.
//!
//! User `i` is `u<i>` in the business system and `o-<i>` at WeChat. Rule `i` of the template `ONE` names user `i` for the
//! customer `c<i>`, and so on: what an event leads to is known from its number.

use serde_json::{Value, json};

pub const APP: &str = "wx0123456789abcdef";
pub const SECRET: &str = "bench-secret";
pub const COMPANY: &str = "C001";

/// One user by a rule.
pub const ONE: &str = "i6Mr7Qlw-w3KAxRz0ol84rPTXmvCoFwJgIHOw1tbiAI";
/// [`TEN`](PEOPLE_IN_TEN) users by a rule.
pub const TEN: &str = "8uXjUqB0sHkS3v1nR5dLwTz7YcGmPaE2oFqKi4xJtNs";
/// Everybody by a rule.
pub const ALL: &str = "Vb2nM9cXzLkJhGfDsA7pOiUyTrEwQ5mN1bVcXz3LkJh";
/// Three in ten users have said no to it.
pub const DECLINED: &str = "Qw8eRtYuIoPaSdFgHjKlZxCvBnM1qAz2wSx3eDc4rFv";
/// Users have said yes to it a counted number of times.
pub const COUNTED: &str = "Lk7jHgFdSaPoIuYtReWqMnBvCxZ0pOl9oKi8jUn7yHb";

pub const PEOPLE_IN_TEN: u64 = 10;
/// Of ten users in a row these have said no to [`DECLINED`].
pub const DECLINERS_IN_TEN: u64 = 3;

/// What the events of a case look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Each to one user of his own, found through a rule of his own.
    One,
    /// Each to ten users.
    Ten,
    /// One to everybody.
    All,
    /// Each to one user, of whom three in ten have said no.
    Declined,
    /// Each to one user whose consent is used up one by one.
    Counted,
}

/// How many of each thing there are.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Users with a rule of their own, and events of most cases.
    pub people: u64,
    /// Users that the one event for all leads to.
    pub everybody: u64,
    /// Rows that the large ledger already holds.
    pub ledger_rows: u64,
    /// Users and rules that the large tables hold besides.
    pub more_users: u64,
    pub more_rules: u64,
}

/// One event and what names it in latency measurements: the openid of its user, where it has one.
pub struct Event {
    pub openid: String,
    pub body: Vec<u8>,
}

impl Kind {
    pub const fn template(self) -> &'static str {
        match self {
            Self::One => ONE,
            Self::Ten => TEN,
            Self::All => ALL,
            Self::Declined => DECLINED,
            Self::Counted => COUNTED,
        }
    }

    /// Events of a whole run.
    pub fn events(self, scale: &Scale) -> u64 {
        match self {
            Self::One | Self::Declined | Self::Counted => scale.people,
            Self::Ten => scale.people / PEOPLE_IN_TEN,
            Self::All => 1,
        }
    }

    /// Ledger rows that they become.
    pub fn deliveries(self, scale: &Scale) -> u64 {
        match self {
            Self::All => scale.everybody,
            _ => scale.people,
        }
    }

    /// Messages that reach a user.
    pub fn sends(self, scale: &Scale) -> u64 {
        match self {
            Self::Declined => scale.people / 10 * (10 - DECLINERS_IN_TEN),
            _ => self.deliveries(scale),
        }
    }
}

/// Event number `i` of run number `run`. Its id looks like a random one, so that inserts go all over the ledger's key, as
/// they do where publishers use UUIDs.
pub fn event(kind: Kind, run: u64, i: u64) -> Event {
    let event_id = format!("{:016x}{:08x}", scattered(run << 32 | i), i);
    let mut event = json!({
        "event_id": event_id, "company_no": COMPANY, "app_id": APP, "template_id": kind.template(),
        "page": format!("pages/pay/detail?id={i}"),
        "data": {
            "character_string1": { "value": event_id }, "amount2": { "value": "¥100.00" },
            "thing3": { "value": "广州南至北京西" }, "date4": { "value": "2026-11-22 10:00" },
        },
    });
    aim(&mut event, kind, i);
    Event { openid: openid(i), body: event.to_string().into_bytes() }
}

fn aim(event: &mut Value, kind: Kind, i: u64) {
    match kind {
        Kind::One => event["customer_id"] = json!(format!("c{i}")),
        Kind::Ten => event["customer_id"] = json!(format!("g{i}")),
        Kind::All => {}
        Kind::Declined | Kind::Counted => event["openids"] = json!([openid(i)]),
    }
}

/// What the floor sends: the daemon's request body, but written without a thought.
pub fn request_body(openid: &str) -> Vec<u8> {
    let number = openid.trim_start_matches("o-");
    let body = format!(
        concat!(
            r#"{{"touser":"{}","template_id":"{}","page":"pages/pay/detail?id={}","#,
            r#""data":{{"amount2":{{"value":"¥100.00"}},"character_string1":{{"value":"0123456789abcdef01234567"}},"#,
            r#""date4":{{"value":"2026-11-22 10:00"}},"thing3":{{"value":"广州南至北京西"}}}},"#,
            r#""miniprogram_state":"formal","lang":"zh_CN"}}"#,
        ),
        openid, ONE, number
    );
    body.into_bytes()
}

fn openid(i: u64) -> String {
    format!("o-{i}")
}

/// A bijection that scatters neighbours (the finalizer of splitmix64).
fn scattered(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

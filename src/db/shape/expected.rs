//! Every table and column that a statement of ours relies on, as data. A test compares it with what the migrations create.

mod ours;
mod table;

use self::table::Kind::{Bigint, Flag, Integer, Jsonb, Text, Texts, Timestamptz, Uuid};
pub(in crate::db) use self::table::{Column, Kind, Need, Table, Unique};
use self::table::{added_by, defaults, given, identity, nullable, omitted, shared, unique};

/// `create_by` and `update_by` get the name of this program.
const OUR_NAME: u32 = 15;
/// `wx` and 16 hexadecimal digits.
const APP_ID: u32 = 18;
/// WeChat's openids have 28 characters.
const OPENID: u32 = 28;
/// WeChat's template ids have 43.
const TEMPLATE_ID: u32 = 43;
/// A secret of 32 characters, or a key of 43, takes up to 106 when it is sealed.
const SECRET: u32 = 128;
/// WeChat asks for room for 512 characters, which take 730 when they are sealed.
const TOKEN: u32 = 730;

/// A column of a shared table that no statement of ours reads or writes. Whether our inserts may leave a column out is checked
/// for every column, also for the company's own.
pub(in crate::db) const UNUSED: &[(&str, &[&str])] = &[
    ("t_wechat_app", &["id", "create_time", "remarks", "callback_token"]),
    ("t_wechat_user", &["unionid", "nick_name", "avatar_url", "session_key", "create_time", "remarks"]),
    ("t_wechat_message_user", &["create_time", "remarks"]),
];

/// All of them.
pub(in crate::db) fn tables() -> impl Iterator<Item = &'static Table> {
    SHARED.iter().chain(ours::OURS)
}

const SHARED: &[Table] = &[
    shared(
        "t_wechat_app",
        &[
            given("app_id", Text(APP_ID)),
            nullable("app_name", Text(0)),
            nullable("app_secret", Text(SECRET)),
            omitted("access_token", Text(TOKEN)),
            omitted("token_exp_time", Timestamptz),
            given("create_by", Text(OUR_NAME)),
            given("update_by", Text(OUR_NAME)),
            omitted("update_time", Timestamptz),
            defaults("status", Flag, "1"),
            added_by(1, nullable("company_no", Text(0))),
            added_by(1, defaults("token_api", Text(7), "'stable'")),
            added_by(1, defaults("token_version", Bigint, "0")),
            added_by(1, omitted("token_lease_owner", Uuid)),
            added_by(1, omitted("token_lease_until", Timestamptz)),
            added_by(1, omitted("encoding_aes_key", Text(SECRET))),
            added_by(1, defaults("miniprogram_state", Text(9), "'formal'")),
            added_by(1, defaults("lang", Text(5), "'zh_CN'")),
            added_by(1, nullable("rate_per_second", Integer)),
            added_by(1, nullable("daily_quota", Bigint)),
        ],
        &[unique(1, &["app_id"])],
    ),
    shared(
        "t_wechat_user",
        &[
            identity(),
            given("app_id", Text(APP_ID)),
            given("openid", Text(OPENID)),
            given("subscribe_template", Jsonb),
            nullable("sys_user_id", Text(0)),
            nullable("username", Text(0)),
            given("create_by", Text(OUR_NAME)),
            given("update_by", Text(OUR_NAME)),
            omitted("update_time", Timestamptz),
            defaults("status", Flag, "1"),
        ],
        &[unique(1, &["app_id", "openid"]), Unique { columns: &["id"], made_by: None }],
    ),
    shared(
        "t_wechat_message_user",
        &[
            identity(),
            given("company_no", Text(0)),
            given("app_id", Text(APP_ID)),
            given("template_id", Text(TEMPLATE_ID)),
            nullable("customer_id", Text(0)),
            given("sys_user_ids", Texts),
            given("create_by", Text(OUR_NAME)),
            given("update_by", Text(OUR_NAME)),
            omitted("update_time", Timestamptz),
            defaults("status", Flag, "1"),
            added_by(1, given("openids", Texts)),
        ],
        &[Unique { columns: &["id"], made_by: None }],
    ),
];

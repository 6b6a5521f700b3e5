//! Every table and column that a statement of ours relies on, as data. A test compares it with what the migrations create.

mod ours;

/// A table.
#[derive(Debug)]
pub(in crate::db) struct Table {
    pub(in crate::db) name: &'static str,
    /// The migration that creates it.
    pub(in crate::db) since: i32,
    /// Business systems may have created it before us, and write it.
    pub(in crate::db) is_shared: bool,
    pub(in crate::db) columns: &'static [Column],
    pub(in crate::db) unique: &'static [Unique],
}

/// A column.
#[derive(Debug)]
pub(in crate::db) struct Column {
    pub(in crate::db) name: &'static str,
    pub(in crate::db) kind: Kind,
    pub(in crate::db) need: Need,
    /// The migration that adds it to a table that exists without it; `None`: no migration does.
    pub(in crate::db) added_by: Option<i32>,
}

/// What a column must be able to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db) enum Kind {
    /// `text`, or a `varchar` of at least so many characters.
    Text(u32),
    /// Any integer type: we only compare it with 0 and 1.
    Flag,
    Integer,
    Bigint,
    Boolean,
    Timestamptz,
    Date,
    Jsonb,
    Uuid,
    Bytea,
    Numeric,
    Texts,
    Integers,
    Bigints,
}

/// What our inserts, and our reads, need of a column besides its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db) enum Need {
    /// Our inserts always give a value.
    Given,
    /// Our inserts may give NULL.
    Nullable,
    /// Our inserts leave it out: it must be nullable or have a default.
    Omitted,
    /// Our inserts leave it out and our reads expect a value: not null, with this default.
    Default(&'static str),
    /// The row's number, which we read and the database makes.
    Identity,
}

/// Columns that no two rows may share.
#[derive(Debug)]
pub(in crate::db) struct Unique {
    pub(in crate::db) columns: &'static [&'static str],
    /// The migration that creates the index; `None`: no migration does.
    pub(in crate::db) made_by: Option<i32>,
}

/// `add_by` and `update_by` get the name of this program.
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

const fn given(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, need: Need::Given, added_by: None }
}

const fn nullable(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, need: Need::Nullable, added_by: None }
}

const fn omitted(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, need: Need::Omitted, added_by: None }
}

const fn defaults(name: &'static str, kind: Kind, default: &'static str) -> Column {
    Column { name, kind, need: Need::Default(default), added_by: None }
}

const fn identity() -> Column {
    Column { name: "id", kind: Kind::Bigint, need: Need::Identity, added_by: None }
}

const fn added_by(migration: i32, column: Column) -> Column {
    Column { added_by: Some(migration), ..column }
}

const fn unique(made_by: i32, columns: &'static [&'static str]) -> Unique {
    Unique { columns, made_by: Some(made_by) }
}

/// Nobody but us creates or writes it.
const fn ours(
    name: &'static str,
    since: i32,
    columns: &'static [Column],
    unique: &'static [Unique],
) -> Table {
    Table { name, since, is_shared: false, columns, unique }
}

/// Business systems have it too.
const fn shared(name: &'static str, columns: &'static [Column], unique: &'static [Unique]) -> Table {
    Table { name, since: 1, is_shared: true, columns, unique }
}

use Kind::{Bigint, Flag, Integer, Jsonb, Text, Texts, Timestamptz, Uuid};

/// What stands on a shared table and nothing of ours reads or writes. What an insert of ours leaves out is looked at in
/// every column, also in those of the company's own.
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

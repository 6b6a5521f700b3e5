//! What operators register: apps, rules, users. The daemon reads the same tables by its own, batched queries.

pub mod apps;
pub mod live_apps;
pub mod pauses;
pub mod quota;
pub mod rules;
pub mod sealing;
mod secrets;
pub mod tokens;
pub mod users;

/// What stands in `create_by` and `update_by` of rows that the command line wrote.
const WRITTEN_BY: &str = "wechat-notifier";

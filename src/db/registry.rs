//! What operators register: apps, rules, users. The daemon reads the same tables by its own, batched queries.

pub mod apps;
pub mod rules;
pub mod sealing;
pub mod users;

/// What stands in `create_by` and `update_by` of rows that the command line wrote.
const WRITTEN_BY: &str = "wechat-notifier";

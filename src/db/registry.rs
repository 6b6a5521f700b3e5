//! The tables beside the ledger. Operators write apps, rules, users and pauses; daemons share tokens, quotas and the pauses
//! of their own. (Rules and users are read for a plan by `ledger::plan`, in batches.)

pub mod apps;
pub mod pauses;
pub mod quota;
pub mod rules;
pub mod sealing;
mod secrets;
mod stored_token;
pub mod tokens;
pub mod users;

/// The value of `create_by` and `update_by` in rows that the command line wrote.
const WRITTEN_BY: &str = "wechat-notifier";

//! All that knows PostgreSQL: one function a query, SQL named by its leading comment.

pub mod apps;
pub mod batch;
pub mod claim;
pub mod error;
pub mod fan_out;
pub mod health;
pub mod letters;
mod lines;
pub mod listen;
pub mod migrate;
pub mod pauses;
pub mod plan;
pub mod pool;
pub mod probe;
mod query;
pub mod quota;
pub mod record;
pub mod registry;
pub mod replay;
pub mod retention;
mod row;
mod secrets;
pub mod settle;
pub mod shape;
pub mod sqlstate;
pub mod story;
pub mod tokens;
pub mod unfinished;

pub use error::Error;
pub use health::Health;
pub use pool::{Database, Planning};

//! All that knows PostgreSQL: one function a query, SQL named by its leading comment.

pub mod batch;
mod connections;
pub mod dead_letters;
pub mod error;
pub mod health;
pub mod ledger;
pub mod listen;
pub mod migrate;
pub mod pool;
pub mod probe;
mod query;
pub mod registry;
pub mod replay;
mod row;
pub mod shape;
pub mod sqlstate;

pub use error::Error;
pub use health::Health;
pub use pool::{Database, Planning};

//! The ledger, `t_wechat_delivery`: rows planned, claimed and settled; what is unfinished; what became of an event.

pub mod browse;
pub mod claim;
pub mod fan_out;
mod named;
pub mod plan;
mod protocol_row;
pub mod record;
pub mod retention;
pub mod settle;
pub mod unfinished;

//! Faults under a modest load of every kind of message. Each story: work is under way, something breaks, it heals,
//! everything ends, and the books add up.

mod broker;
mod clocks;
mod database;
mod fan_out;
mod load;
mod token;
mod wechat;

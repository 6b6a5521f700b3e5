//! Subscribe message templates, and what a message's data must look like to fit one.

mod field;
mod template;

pub use self::template::{Template, check_shape};

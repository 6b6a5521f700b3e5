//! Access tokens: how long each works, and which app it belongs to.

mod index;
mod issuer;

pub use self::index::TokenIndex;
pub use self::issuer::{Issuer, Kind, Lifetime, well_formed};

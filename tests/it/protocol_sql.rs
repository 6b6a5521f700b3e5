//! The delivery protocol on a real PostgreSQL: the statements say and write exactly what the pure table says.

mod book;
mod claiming;
mod consent;
mod racing;
mod settling;

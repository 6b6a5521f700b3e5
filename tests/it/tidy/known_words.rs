//! Uses of retired words (see `words`) that are still there, by file. To be said better, never to grow.

pub const KNOWN: &[(&str, usize)] = &[];

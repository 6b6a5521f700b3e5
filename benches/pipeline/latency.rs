//! From publishing to WeChat's receiving, event by event: publisher and simulator read the same clock.

use std::collections::HashMap;

use anyhow::{Result, ensure};

use super::publisher::Published;

/// Of a steady stream, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Matches what was published with what was received.
pub fn measured(published: &[Published], received: &HashMap<String, u64>) -> Result<Latency> {
    let mut took_us = Vec::with_capacity(published.len());
    for event in published {
        // A user's newest send; each event of the stream has a user of its own.
        took_us.extend(received.get(&event.openid).and_then(|at_us| at_us.checked_sub(event.at_us)));
    }
    ensure!(took_us.len() == published.len(), "{} of {} arrived", took_us.len(), published.len());
    took_us.sort_unstable();
    let at = |hundredths: usize| took_us[(took_us.len() - 1) * hundredths / 100] as f64 / 1000.0;
    Ok(Latency { p50_ms: at(50), p99_ms: at(99) })
}

//! How far a run is and what it has used, looked at ten times a second.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use super::rig::Rig;
use super::subject::Subject;
use super::usage;

const EVERY: Duration = Duration::from_millis(100);
/// Nothing that works takes this long between two looks.
const STUCK: Duration = Duration::from_secs(60);
/// The first part of a run is left out: connections come about, caches and plans warm up.
const WARM_UP: f64 = 0.1;

/// One look.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    at: Instant,
    sends: u64,
    cpu: Cpu,
}

/// CPU time so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    pub subject: Duration,
    pub postgres: Duration,
    pub rabbitmq: Duration,
}

/// What happened between two looks.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    pub took: Duration,
    pub sends: u64,
    pub cpu: Cpu,
}

/// Looks now. `before`: sends of earlier runs.
pub async fn look(rig: &Rig, subject: &Subject, before: u64) -> Result<Sample> {
    let (postgres, rabbitmq) = rig.server_pids()?;
    let sends = rig.wechat.sends().await?.saturating_sub(before);
    let cpu = Cpu {
        subject: subject.cpu()?,
        postgres: usage::cpu(&[postgres])?,
        rabbitmq: usage::cpu(&[rabbitmq])?,
    };
    Ok(Sample { at: Instant::now(), sends, cpu })
}

/// Looks again and again until this many sends have arrived.
pub async fn watch(rig: &Rig, subject: &Subject, before: u64, expected: u64) -> Result<Vec<Sample>> {
    let mut samples = vec![look(rig, subject, before).await?];
    let mut moved = Instant::now();
    while samples.last().is_some_and(|last| last.sends < expected) {
        tokio::time::sleep(EVERY).await;
        let sample = look(rig, subject, before).await?;
        if samples.last().is_some_and(|last| last.sends < sample.sends) {
            moved = Instant::now();
        }
        ensure!(moved.elapsed() < STUCK, "stuck at {} of {expected} sends", sample.sends);
        samples.push(sample);
    }
    Ok(samples)
}

/// The steady middle of a run: without its warm-up, and without the last look, which comes when all is over.
pub fn middle(samples: &[Sample]) -> Stretch {
    let last = samples.len().saturating_sub(1);
    let total = samples[last].sends as f64;
    let from = samples.iter().position(|sample| sample.sends as f64 >= total * WARM_UP).unwrap_or(0);
    let to = last.saturating_sub(1);
    // Too short a run has no middle.
    if to > from { between(&samples[from], &samples[to]) } else { whole(samples) }
}

/// From the first look to the last.
pub fn whole(samples: &[Sample]) -> Stretch {
    between(&samples[0], &samples[samples.len() - 1])
}

fn between(from: &Sample, to: &Sample) -> Stretch {
    Stretch {
        took: to.at - from.at,
        sends: to.sends - from.sends,
        cpu: Cpu {
            subject: to.cpu.subject.saturating_sub(from.cpu.subject),
            postgres: to.cpu.postgres.saturating_sub(from.cpu.postgres),
            rabbitmq: to.cpu.rabbitmq.saturating_sub(from.cpu.rabbitmq),
        },
    }
}

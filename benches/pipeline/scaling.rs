//! What a number of messages a day takes, computed from the measured costs of one delivery. For docs/SCALING.md.

use std::fmt::Write as _;

use anyhow::Result;

use super::case::Case;
use super::trial::Figures;

/// The case whose costs count: publishing is part of what the broker has to do.
const MODEL: &str = super::plan::MEANWHILE;
/// The busiest minute has this many times the day's mean: messages follow people's days, and sales begin on the hour.
const PEAK: f64 = 10.0;
/// Cores are planned to be this busy at the peak; above it, waiting grows faster than work.
const BUSY: f64 = 0.6;
/// WeChat's answer, from a data centre in the same country.
const ANSWER_SECONDS: f64 = 0.08;
/// Slots of one process, by default, of which one app alone gets four fifths.
const SLOTS: f64 = 256.0 * 0.8;
const SECONDS_A_DAY: f64 = 86_400.0;
const MILLIONS_A_DAY: [f64; 3] = [1.0, 10.0, 1_000.0];

/// Costs of one delivery in microseconds of one core.
struct Costs {
    daemon: f64,
    postgres: f64,
    rabbitmq: f64,
}

/// A table with a column for each size; nothing where the model was not measured.
pub fn markdown(results: &[(Case, Figures)], ledger_row_bytes: Option<f64>) -> Result<String> {
    let Some(costs) = costs(results) else { return Ok(String::new()) };
    let mut text = String::new();
    writeln!(
        text,
        "| | {} |",
        MILLIONS_A_DAY.map(|millions| format!("{millions:.0} million a day")).join(" | ")
    )?;
    writeln!(text, "|---|{}", "---|".repeat(MILLIONS_A_DAY.len()))?;
    let mut row = |what: &str, value: &dyn Fn(f64) -> String| {
        let cells = MILLIONS_A_DAY.map(|millions| value(millions * 1e6 / SECONDS_A_DAY)).join(" | ");
        writeln!(text, "| {what} | {cells} |")
    };
    let cores = |micros: f64| move |mean: f64| format!("{:.2}", mean * PEAK * micros / 1e6 / BUSY);
    row("mean, messages/s", &|mean| format!("{mean:.0}"))?;
    row("peak, messages/s", &|mean| format!("{:.0}", mean * PEAK))?;
    row("requests under way at the peak", &|mean| format!("{:.0}", mean * PEAK * ANSWER_SECONDS))?;
    row(&format!("daemon, cores ({:.0} µs)", costs.daemon), &cores(costs.daemon))?;
    row("daemon, processes (by slots, and by cores)", &|mean| {
        let by_slots = (mean * PEAK * ANSWER_SECONDS / SLOTS).ceil();
        let by_cores = (mean * PEAK * costs.daemon / 1e6 / BUSY).ceil();
        format!("{by_slots:.0}, {by_cores:.0}")
    })?;
    row(&format!("PostgreSQL, cores ({:.0} µs)", costs.postgres), &cores(costs.postgres))?;
    row(&format!("RabbitMQ, cores ({:.0} µs)", costs.rabbitmq), &cores(costs.rabbitmq))?;
    if let Some(bytes) = ledger_row_bytes {
        let gigabytes = |mean: f64| mean * SECONDS_A_DAY * bytes / 1e9;
        row(&format!("ledger, GB a day ({bytes:.0} bytes a row)"), &|mean| {
            format!("{:.1}", gigabytes(mean))
        })?;
        row("ledger of 30 days, GB", &|mean| format!("{:.0}", gigabytes(mean) * 30.0))?;
    }
    Ok(text)
}

fn costs(results: &[(Case, Figures)]) -> Option<Costs> {
    let median = |value: fn(&Figures) -> f64| {
        let rounds = results.iter().filter(|(case, _)| case.name == MODEL);
        let mut values: Vec<f64> = rounds.map(|(_, figures)| value(figures)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    Some(Costs {
        daemon: median(|figures| figures.subject_us)?,
        postgres: median(|figures| figures.postgres_us)?,
        rabbitmq: median(|figures| figures.rabbitmq_us)?,
    })
}

//! Medians over the rounds with their spread: for the eye, for programs, and for the documents.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use comfy_table::Table;
use serde_json::{Value, json};

use super::case::Case;
use super::scaling;
use super::trial::Figures;

const HEADINGS: [&str; 10] = [
    "case",
    "deliveries/s",
    "of the floor",
    "client CPU µs",
    "× floor",
    "PostgreSQL µs",
    "RabbitMQ µs",
    "peak MiB",
    "statements/event",
    "p50 / p99 ms",
];

/// All rounds of one case.
struct Row<'a> {
    case: &'a Case,
    rounds: Vec<&'a Figures>,
    floors: Vec<&'a Figures>,
}

/// The middle of some values, and how far they lie apart.
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

/// Prints the table and leaves `results.json`, `results.md` and `scaling.md` in the folder.
pub fn write(
    folder: &Path,
    quick: bool,
    ledger_row_bytes: Option<f64>,
    results: &[(Case, Figures)],
) -> Result<()> {
    let rows = rows(results);
    let cells: Vec<[String; 10]> = rows.iter().map(Row::cells).collect();
    let mut table = Table::new();
    table.set_header(HEADINGS).add_rows(&cells);
    println!("{table}");
    if quick {
        println!("a quick run: it shows that everything works; its figures mean nothing");
    }
    fs::create_dir_all(folder)?;
    let figures: Vec<&Figures> = results.iter().map(|(_, figures)| figures).collect();
    let document = json!({ "machine": machine(), "quick": quick, "ledger_row_bytes": ledger_row_bytes, "runs": figures });
    fs::write(folder.join("results.json"), serde_json::to_string_pretty(&document)?)?;
    fs::write(folder.join("results.md"), markdown(&cells)? + &source()?)?;
    fs::write(folder.join("scaling.md"), scaling::markdown(results, ledger_row_bytes)? + &source()?)?;
    println!("details: {}", folder.join("results.json").display());
    Ok(())
}

fn rows(results: &[(Case, Figures)]) -> Vec<Row<'_>> {
    let of = |name: &str| {
        results.iter().filter(|(case, _)| case.name == name).map(|(_, figures)| figures).collect()
    };
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (case, _) in results {
        if rows.iter().all(|row| row.case.name != case.name) {
            let floors = case.floor.as_deref().map_or_else(Vec::new, of);
            rows.push(Row { case, rounds: of(&case.name), floors });
        }
    }
    rows
}

impl Row<'_> {
    fn cells(&self) -> [String; 10] {
        let plain = |value: fn(&Figures) -> f64| Spread::of(self.rounds.iter().map(|round| value(round)));
        let rate = plain(|round| round.rate);
        let latency = |value: fn(&Figures) -> Option<f64>| {
            Spread::of(self.rounds.iter().filter_map(|round| value(round))).map(|spread| spread.median)
        };
        let latencies = match (latency(|round| round.p50_ms), latency(|round| round.p99_ms)) {
            (Some(p50), Some(p99)) => format!("{p50:.1} / {p99:.1}"),
            _ => String::new(),
        };
        let statements = Spread::of(self.rounds.iter().filter_map(|round| round.statements_per_event));
        [
            self.case.name.clone(),
            rate.map_or_else(String::new, |rate| {
                format!("{:.0} ({:.0}–{:.0})", rate.median, rate.low, rate.high)
            }),
            self.against_floor(|round| round.rate).map_or_else(String::new, |share| format!("{share:.2}")),
            shown(plain(|round| round.subject_us)),
            self.against_floor(|round| round.subject_us)
                .map_or_else(String::new, |share| format!("{share:.2}")),
            shown(plain(|round| round.postgres_us)),
            shown(plain(|round| round.rabbitmq_us)),
            shown(plain(|round| round.peak_kib as f64 / 1024.0)),
            statements.map_or_else(String::new, |spread| format!("{:.2}", spread.median)),
            latencies,
        ]
    }

    /// The median of what each round had beside its own floor. (The large ledger's floor ran before it.)
    fn against_floor(&self, value: fn(&Figures) -> f64) -> Option<f64> {
        let floor = |round: u32| self.floors.iter().find(|floor| floor.round == round);
        let shares = self.rounds.iter().filter_map(|own| Some(value(own) / value(floor(own.round)?)));
        Spread::of(shares).map(|spread| spread.median)
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let median = *values.get(values.len() / 2)?;
        Some(Self { low: *values.first()?, median, high: *values.last()? })
    }
}

fn shown(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |spread| format!("{:.0}", spread.median))
}

fn markdown(cells: &[[String; 10]]) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "| {} |", HEADINGS.join(" | "))?;
    writeln!(text, "|{}", "---|".repeat(HEADINGS.len()))?;
    for row in cells {
        writeln!(text, "| {} |", row.join(" | "))?;
    }
    Ok(text)
}

/// The line below every table: which code, on what.
fn source() -> Result<String> {
    let mut text = String::new();
    let machine = machine();
    let said = |what: &str| machine[what].as_str().unwrap_or_default().to_owned();
    writeln!(
        text,
        "\n`benches/run` at commit {}, on {} cores ({}), {}, Linux {}.",
        said("commit"),
        said("cores"),
        said("processor"),
        said("memory"),
        said("kernel")
    )?;
    Ok(text)
}

/// On what, and of what, the figures are.
fn machine() -> Value {
    json!({
        "commit": first_line("git", &["describe", "--always", "--dirty"]).unwrap_or_default(),
        "cores": first_line("nproc", &[]).unwrap_or_default(),
        "processor": line_of("/proc/cpuinfo", "model name").unwrap_or_default(),
        "memory": line_of("/proc/meminfo", "MemTotal").unwrap_or_default(),
        "kernel": first_line("uname", &["-r"]).unwrap_or_default(),
    })
}

fn first_line(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().context("no output")?.to_owned())
}

fn line_of(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

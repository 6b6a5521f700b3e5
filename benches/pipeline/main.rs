//! Measures the daemon against real servers, beside a floor that does the same without a ledger. Started by `benches/run`,
//! which brings the servers; shares no code with what it measures.
//!
//! ```text
//! plan: the cases in order     rig: the servers and everything that is set up once
//!    └─► trial: one measured run ─► load (events), subject (processes), sampling (rate, CPU), latency
//!           └─► report: medians over the rounds, as a table, as JSON and as Markdown
//! ```

mod books;
mod case;
mod floor;
mod latency;
mod load;
mod plan;
mod publisher;
mod report;
mod rig;
mod sampling;
mod scaling;
mod subject;
mod trial;
mod usage;
mod wechat;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;

use plan::Plan;
use rig::Rig;
use subject::Program;

/// The daemon's own allocator, so that the floor is not slower by the allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "Measures wechat-notifier; see benches/run")]
enum Command {
    /// Run the cases and write the report.
    Measure(Measure),
    /// Be the floor: consume, post, ack, and nothing else.
    Floor(floor::Floor),
}

#[derive(clap::Args)]
struct Measure {
    /// A short run that proves that everything works; its figures mean little.
    #[arg(long)]
    quick: bool,
    /// The daemon to measure, as NAME=PATH; several are compared case by case. Default: the one beside this program.
    #[arg(long = "daemon", value_parser = program)]
    daemons: Vec<Program>,
    /// Only cases whose name contains one of these words.
    #[arg(long = "only")]
    only: Vec<String>,
    /// How often each case is measured.
    #[arg(long)]
    rounds: Option<u32>,
    /// Folder for the results.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

fn program(text: &str) -> Result<Program> {
    let (name, path) = text.split_once('=').context("not of the form NAME=PATH")?;
    Ok(Program { name: name.to_owned(), path: PathBuf::from(path) })
}

#[tokio::main]
async fn main() -> Result<()> {
    // One TLS provider for every client. It fails only where one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Command::parse() {
        Command::Measure(arguments) => measure(arguments).await,
        Command::Floor(arguments) => arguments.run().await,
    }
}

async fn measure(arguments: Measure) -> Result<()> {
    let mut daemons = arguments.daemons;
    if daemons.is_empty() {
        daemons.push(subject::sibling("wechat-notifier")?);
    }
    let names: Vec<&str> = daemons.iter().map(|daemon| daemon.name.as_str()).collect();
    let plan = Plan::new(arguments.quick, &names, arguments.rounds).only(&arguments.only);
    if plan.is_empty() {
        bail!("no case of that name");
    }
    let mut rig = Rig::set_up(daemons, plan.scale()).await?;
    let results = plan.run(&mut rig).await?;
    report::write(&arguments.out, arguments.quick, rig.ledger_row_bytes().await?, &results)
}

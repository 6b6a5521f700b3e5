//! What is measured, as processes: the floor, or one or more daemons.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::usage;

/// The first word of every queue.
pub const PREFIX: &str = "bench";

/// Longest time to become ready, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A daemon to measure, under the name that the report gives it.
#[derive(Debug, Clone)]
pub struct Program {
    pub name: String,
    pub path: PathBuf,
}

/// Where a subject finds its servers.
pub struct Surroundings<'a> {
    pub amqp_url: &'a str,
    pub database_url: &'a str,
    pub wechat: &'a str,
    pub prefetch: u16,
    /// Requests that may be under way at once, in one process.
    pub in_flight: usize,
    pub log: PathBuf,
}

/// Running processes, killed when dropped.
pub struct Subject {
    children: Vec<Child>,
    /// Of daemons: where each says whether it is ready.
    readiness: Vec<String>,
}

/// The program that cargo builds beside this one.
pub fn sibling(name: &str) -> Result<Program> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "{} is not built", path.display());
    Ok(Program { name: name.to_owned(), path })
}

impl Subject {
    /// Starts daemons and returns at once.
    pub fn daemons(program: &Program, count: usize, around: &Surroundings<'_>) -> Result<Self> {
        let (mut children, mut readiness) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let listen = free_address()?;
            let mut command = Command::new(&program.path);
            command.arg("run").envs(settings(around, &listen));
            children.push(command.stdout(Stdio::null()).stderr(log(around)?).spawn()?);
            readiness.push(format!("http://{listen}/readyz"));
        }
        Ok(Self { children, readiness })
    }

    /// Starts the floor and returns when it consumes.
    pub fn floor(around: &Surroundings<'_>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["floor", "--amqp-url", around.amqp_url, "--queue", &format!("{PREFIX}.events")]);
        command.args(["--wechat", around.wechat, "--prefetch", &around.prefetch.to_string()]);
        command.args(["--in-flight", &around.in_flight.to_string()]);
        let mut child = command.stdout(Stdio::piped()).stderr(log(around)?).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "the floor does not start");
        Ok(Self { children: vec![child], readiness: Vec::new() })
    }

    /// Waits until all of it is ready to work.
    pub async fn ready(&self) -> Result<()> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for page in &self.readiness {
            while !is_ready(&http, page).await {
                ensure!(tokio::time::Instant::now() < deadline, "a daemon does not get ready: {page}");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// CPU time of all of it so far.
    pub fn cpu(&self) -> Result<Duration> {
        usage::cpu(&self.children.iter().map(Child::id).collect::<Vec<_>>())
    }

    /// The most memory that any of it ever held, in KiB.
    pub fn peak_memory_kib(&self) -> Result<u64> {
        let peaks = self.children.iter().map(|child| usage::peak_memory_kib(child.id()));
        peaks.reduce(|a, b| Ok(a?.max(b?))).context("no process")?
    }

    /// Ends it: daemons in order, with all acks written. The floor does not know how to end.
    pub async fn end(mut self) -> Result<()> {
        if self.readiness.is_empty() {
            return Ok(());
        }
        for child in &self.children {
            Command::new("kill").arg("-TERM").arg(child.id().to_string()).status()?;
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for child in &mut self.children {
            loop {
                match child.try_wait()? {
                    Some(status) if status.success() => break,
                    Some(status) => bail!("a daemon ended with {status}"),
                    None => tokio::time::sleep(LOOK_EVERY).await,
                }
                ensure!(tokio::time::Instant::now() < deadline, "a daemon does not stop");
            }
        }
        Ok(())
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The defaults, but for where things are and how much may be under way.
fn settings(around: &Surroundings<'_>, ops: &str) -> impl Iterator<Item = (String, String)> {
    let (prefetch, in_flight) = (around.prefetch.to_string(), around.in_flight.to_string());
    [
        ("AMQP__URL", around.amqp_url),
        ("AMQP__PREFIX", PREFIX),
        ("AMQP__PREFETCH", &prefetch),
        ("DATABASE__URL", around.database_url),
        ("WECHAT__API_BASE", around.wechat),
        ("DELIVERY__CONCURRENCY", &in_flight),
        ("OPS__LISTEN", ops),
        ("HTTP__LISTEN", ""),
        ("LOG__FORMAT", "json"),
    ]
    .map(|(key, value)| (format!("WECHAT_NOTIFIER_{key}"), value.to_owned()))
    .into_iter()
}

fn log(around: &Surroundings<'_>) -> Result<File> {
    Ok(File::options().create(true).append(true).open(&around.log)?)
}

fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

async fn is_ready(http: &reqwest::Client, page: &str) -> bool {
    http.get(page).send().await.is_ok_and(|answer| answer.status().is_success())
}

//! What processes have used, from Linux's /proc.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Linux shows CPU time to programs in hundredths of a second, whatever its own tick is.
const TICK: Duration = Duration::from_millis(10);

/// One line of `/proc/<pid>/stat`.
struct Stat {
    parent: u32,
    /// Its own, and of those of its children that have ended.
    ticks: u32,
}

/// CPU time, user and system, of processes with all their descendants.
pub fn cpu(roots: &[u32]) -> Result<Duration> {
    let all = all()?;
    let is_below = |mut pid: u32| loop {
        if roots.contains(&pid) {
            return true;
        }
        match all.get(&pid) {
            Some(stat) if stat.parent > 1 => pid = stat.parent,
            _ => return false,
        }
    };
    let ticks: u32 = all.iter().filter(|(pid, _)| is_below(**pid)).map(|(_, stat)| stat.ticks).sum();
    Ok(TICK * ticks)
}

/// The most memory a process ever held (`VmHWM`), in KiB.
pub fn peak_memory_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn all() -> Result<HashMap<u32, Stat>> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end between the listing and the look.
        let Ok(line) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        all.extend(stat(&line).map(|stat| (pid, stat)));
    }
    Ok(all)
}

/// The second field, the program's name in brackets, may hold blanks; what follows it is numbered from 3 in proc(5).
fn stat(line: &str) -> Option<Stat> {
    let fields: Vec<&str> = line.rsplit_once(") ")?.1.split(' ').collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u32>().ok();
    Some(Stat { parent: field(4)?, ticks: field(14)? + field(15)? + field(16)? + field(17)? })
}

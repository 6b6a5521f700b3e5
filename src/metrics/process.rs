//! CPU, memory and file descriptors of the process, read from `/proc/self` when the page is rendered.

use std::fs;

/// Linux reports CPU time to programs in hundredths of a second, whatever the kernel's own tick is (`man 5 proc`).
const TICKS_PER_SECOND: f64 = 100.0;

/// One reading. A part that cannot be read (no `/proc`, say) is absent, so that its metric keeps its last value.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    /// User and system time since the start.
    pub(super) cpu_seconds: Option<f64>,
    /// Memory that is in RAM now.
    pub(super) resident_bytes: Option<i64>,
    /// File descriptors in use.
    pub(super) open_fds: Option<i64>,
    /// File descriptors allowed.
    pub(super) max_fds: Option<i64>,
}

impl Usage {
    /// Reads `/proc/self`: four small files of the kernel's memory, some tens of microseconds.
    pub(super) fn read() -> Self {
        let file = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
        Self {
            cpu_seconds: file("stat").as_deref().and_then(cpu_seconds),
            resident_bytes: file("status").as_deref().and_then(resident_bytes),
            open_fds: open_fds(),
            max_fds: file("limits").as_deref().and_then(max_fds),
        }
    }
}

/// `utime` and `stime` are the 12th and 13th fields after the program's name, which may itself hold spaces and brackets.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

fn resident_bytes(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The listing itself holds one descriptor while it runs; that one is not counted.
fn open_fds() -> Option<i64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();
    i64::try_from(entries.saturating_sub(1)).ok()
}

fn max_fds(limits: &str) -> Option<i64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_a_bracket_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 3 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
    }

    #[test]
    fn memory_and_limits_are_found_by_their_labels() {
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t     2048 kB\n"), Some(2 * 1024 * 1024));
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n";
        assert_eq!(max_fds(limits), Some(1024));
    }

    #[test]
    fn this_very_process_can_be_read() {
        let usage = Usage::read();
        assert!(usage.resident_bytes.unwrap() > 0);
        assert!(usage.open_fds.unwrap() >= 3);
        assert!(usage.cpu_seconds.is_some() && usage.max_fds.is_some());
    }
}

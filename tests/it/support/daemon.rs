//! A daemon process under test.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::eventually;

/// What `std::process::abort` ends a process with.
const SIGABRT: i32 = 6;

/// The real binary, running. Killed when dropped.
pub struct Daemon {
    child: Child,
    reader: Option<std::thread::JoinHandle<()>>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    /// `surroundings` are variables of the environment under their own names.
    pub(super) fn spawn(
        settings: &[(String, String)],
        more: &[(&str, &str)],
        surroundings: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wechat-notifier"));
        command.arg("run").envs(settings.iter().cloned()).envs(surroundings.iter().copied());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        for (key, value) in more {
            command.env(format!("WECHAT_NOTIFIER_{key}"), value);
        }
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stderr, lines) = (child.stderr.take().unwrap(), Arc::clone(&log));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Self { child, reader: Some(reader), log }
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Waits for a line of its log that holds all these words, and hands it out.
    pub async fn says(&self, words: &[&str]) -> String {
        eventually(&format!("the daemon to say {words:?}"), async || {
            let log = self.log.lock().unwrap();
            log.iter().find(|line| words.iter().all(|word| line.contains(word))).cloned()
        })
        .await
    }

    /// Waits for `/readyz` to say no, for a reason in these words.
    pub async fn not_ready(&self, words: &str) {
        eventually(&format!("the daemon to be not ready: {words}"), async || {
            self.ops_now()?;
            let (status, page) = self.page("/readyz").await;
            (status == 503 && page.contains(words)).then_some(())
        })
        .await;
    }

    /// The address of the ops listener, from the log: the port is the system's choice.
    pub async fn ops(&mut self) -> String {
        eventually("the daemon to name its ops listener", async || self.ops_now()).await
    }

    fn ops_now(&self) -> Option<String> {
        self.log.lock().unwrap().iter().find_map(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).ok()?;
            (entry["listener"] == "ops").then(|| format!("http://{}", entry["address"].as_str().unwrap()))
        })
    }

    /// Waits for `/readyz` to say yes.
    pub async fn until_ready(&self) {
        let http = super::wechat::http();
        eventually("the daemon to be ready", async || {
            let base = self.ops_now()?;
            let answer = http.get(format!("{base}/readyz")).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// One page of the ops listener.
    pub async fn page(&self, path: &str) -> (u16, String) {
        let base = self.ops_now().expect("the daemon has an ops listener");
        let answer = super::wechat::http().get(format!("{base}{path}")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The value of one metric with these exact labels as Prometheus writes them; 0 where there is no such series.
    pub async fn metric(&self, series: &str) -> f64 {
        let (_, page) = self.page("/metrics").await;
        let line =
            page.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    /// The most memory it ever held, in KiB (Linux: `VmHWM`).
    pub fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// SIGKILL: no goodbye.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Any signal by its name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success(), "the daemon is gone already");
    }

    /// Waits for the process to abort, as a crash point makes it do.
    pub async fn aborted(&mut self) {
        let status = eventually("the daemon to abort", async || self.child.try_wait().unwrap()).await;
        assert_eq!(status.signal(), Some(SIGABRT), "the daemon ended in another way: {status}");
    }

    /// Waits for the process to end; its exit code, or `None` where a signal ended it.
    pub async fn exit(&mut self) -> Option<i32> {
        let status = eventually("the daemon to end", async || self.child.try_wait().unwrap()).await;
        if let Some(reader) = self.reader.take() {
            // Its last words are in the pipe still.
            reader.join().unwrap();
        }
        status.code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the daemon's log ---\n{}", self.log());
        }
    }
}

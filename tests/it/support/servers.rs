//! Servers of a test's own, for stories that stop and restart them.

use std::process::Command;

use super::given;

/// A broker and a database that no other test uses. They end when this is dropped.
pub struct Servers {
    name: String,
    control: String,
    pub amqp_url: String,
    pub database_url: String,
}

impl Servers {
    /// Starts a pair; `name` is its own within the run.
    pub fn start(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let urls = run(&given("WN_TEST_SERVERS"), &["private-servers", &name]);
        let url = |key: &str| {
            let line = urls.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_else(|| panic!("no {key} in {urls}")).to_owned()
        };
        Self {
            name,
            control: url("WN_TEST_SERVERS"),
            amqp_url: url("WN_TEST_AMQP_URL"),
            database_url: url("WN_TEST_DATABASE_URL"),
        }
    }

    /// Does one of the verbs of `tests/servers/control`; when it returns, it is done.
    pub async fn tell(&self, verb: &str) {
        let (control, verb) = (self.control.clone(), verb.to_owned());
        tokio::task::spawn_blocking(move || run(&control, &[&verb])).await.unwrap();
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let ended = Command::new(given("WN_TEST_SERVERS")).args(["private-servers-end", &self.name]).status();
        if !std::thread::panicking() {
            assert!(ended.unwrap().success(), "the servers {} did not end", self.name);
        }
    }
}

fn run(control: &str, arguments: &[&str]) -> String {
    let output = Command::new(control).args(arguments).output().unwrap();
    assert!(output.status.success(), "{control} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

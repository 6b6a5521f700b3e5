//! Servers of a test's own, for stories that stop and restart them.

use std::process::Command;

use super::given;

/// A broker and a database that no other test uses. They end when this is dropped.
pub struct Servers {
    name: String,
    control: String,
    pub amqp_url: String,
    pub database_url: String,
    urls: String,
}

impl Servers {
    /// Starts a pair; `name` is its own within the run.
    pub fn start(name: &str) -> Self {
        Self::begin("private-servers", name)
    }

    /// The same with TLS beside the plain way in; see `told` for where and by whose word.
    pub fn start_tls(name: &str) -> Self {
        Self::begin("private-tls-servers", name)
    }

    fn begin(verb: &str, name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let urls = run(&given("WN_TEST_SERVERS"), &[verb, &name]);
        Self {
            name,
            control: value(&urls, "WN_TEST_SERVERS"),
            amqp_url: value(&urls, "WN_TEST_AMQP_URL"),
            database_url: value(&urls, "WN_TEST_DATABASE_URL"),
            urls,
        }
    }

    /// One of the other lines that came with the URLs.
    pub fn told(&self, key: &str) -> String {
        value(&self.urls, key)
    }

    /// Does one of the verbs of `tests/servers/control`, such as `broker-restart` or `rabbitmqctl list_queues`; when it returns,
    /// it is done.
    pub async fn tell(&self, verb: &str) {
        let (control, verb) = (self.control.clone(), verb.to_owned());
        let arguments = move || run(&control, &verb.split(' ').collect::<Vec<_>>());
        tokio::task::spawn_blocking(arguments).await.unwrap();
    }

    /// The servers that the script around this test started for it alone. They end with the script.
    pub fn of_the_script() -> Self {
        Self {
            name: String::new(),
            control: given("WN_TEST_SERVERS"),
            amqp_url: given("WN_TEST_AMQP_URL"),
            database_url: given("WN_TEST_DATABASE_URL"),
            urls: String::new(),
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if self.name.is_empty() {
            return;
        }
        let ended = Command::new(given("WN_TEST_SERVERS")).args(["private-servers-end", &self.name]).status();
        if !std::thread::panicking() {
            assert!(ended.unwrap().success(), "the servers {} did not end", self.name);
        }
    }
}

fn value(urls: &str, key: &str) -> String {
    let line = urls.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("no {key} in {urls}")).to_owned()
}

fn run(control: &str, arguments: &[&str]) -> String {
    let output = Command::new(control).args(arguments).output().unwrap();
    assert!(output.status.success(), "{control} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

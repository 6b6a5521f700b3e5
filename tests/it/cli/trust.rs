//! Configuration files that somebody else could have written: `wechat.api_base` decides where app secrets go.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::terminal::{Said, Terminal};

/// A working folder with a configuration file in it; gone when dropped.
struct Desk(PathBuf);

impl Desk {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("wn-desk-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let desk = Self(folder);
        fs::write(desk.file(), "[wechat]\napi_base = \"http://127.0.0.1:9\"\n").unwrap();
        desk.mode(0o600);
        desk
    }

    fn file(&self) -> PathBuf {
        self.0.join("wechat-notifier.toml")
    }

    fn mode(&self, mode: u32) {
        fs::set_permissions(self.file(), Permissions::from_mode(mode)).unwrap();
    }

    /// Runs a command line in this folder.
    fn run(&self, terminal: &Terminal, line: &str) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_wechat-notifier"))
            .args(line.split_whitespace())
            .env("DATABASE_URL", terminal.scratch.url())
            .current_dir(&self.0)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn refused(said: &Said, words: &[&str]) {
    assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{said:?}");
    for word in words {
        assert!(said.stderr.contains(word), "{word:?} is not in {}", said.stderr);
    }
}

#[tokio::test]
async fn a_configuration_that_others_can_write_is_refused() {
    let terminal = Terminal::new().await;
    let desk = Desk::new("writable");
    desk.mode(0o606);
    let by_name = format!("--config {} app list", desk.file().display());
    for line in ["app list", "check", by_name.as_str()] {
        refused(
            &desk.run(&terminal, line),
            &["wechat-notifier.toml", "can be written by others", "chmod go-w"],
        );
    }
    desk.mode(0o644);
    assert_eq!(desk.run(&terminal, "app list").code, 0);
}

#[tokio::test]
async fn a_configuration_of_another_user_is_refused() {
    let terminal = Terminal::new().await;
    let desk = Desk::new("foreign");
    // Only root can give a file away. Nobody else can make this story, and the unit tests of `config::trust` tell it too.
    if chown(desk.file(), Some(4242), None).is_err() {
        eprintln!("not root: the file stays ours");
        return;
    }
    for line in ["app list", "check"] {
        refused(&desk.run(&terminal, line), &["is owned by user 4242", "this process runs as user", "chown"]);
    }
    refused(&desk.run(&terminal, "--config wechat-notifier.toml app list"), &["is owned by user 4242"]);
}

#[tokio::test]
async fn a_configuration_that_anybody_can_replace_is_refused() {
    let terminal = Terminal::new().await;
    let desk = Desk::new("replaceable");
    fs::set_permissions(&desk.0, Permissions::from_mode(0o777)).unwrap();
    refused(&desk.run(&terminal, "app list"), &["everybody can replace it", "chmod o-w"]);
    fs::set_permissions(&desk.0, Permissions::from_mode(0o1777)).unwrap();
    assert_eq!(desk.run(&terminal, "app list").code, 0, "in a sticky folder only its owner replaces a file");
}

#[tokio::test]
async fn check_says_which_file_was_read_and_warns_of_a_readable_key() {
    let terminal = Terminal::new().await;
    let desk = Desk::new("named");
    key(&desk.0.join("master.key"));
    fs::write(desk.file(), "[security]\nmaster_key_file = \"master.key\"\n").unwrap();
    let said = desk.run(&terminal, "check --json").stdout;
    assert!(said.contains(&format!("read from {}", desk.file().display())), "{said}");
    assert!(said.contains("master.key can be read by every user"), "{said}");
}

fn key(path: &Path) {
    fs::write(path, "ab".repeat(32)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
}

#[tokio::test]
async fn a_configuration_without_end_is_refused() {
    let terminal = Terminal::new().await;
    let desk = Desk::new("endless");
    let said = desk.run(&terminal, "--config /dev/zero app list");
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("larger than 1048576 bytes"), "{said:?}");
}

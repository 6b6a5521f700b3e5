//! Who runs this command, as the operating system says it: an environment variable cannot forge it.

use std::os::unix::fs::MetadataExt;

/// The user's name, e.g. `alice`; `root (sudo by alice)` where sudo says so; `uid 1000` where the machine has no name.
pub fn operator() -> String {
    let Ok(process) = std::fs::metadata("/proc/self") else { return "unknown".to_owned() };
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let sudo = std::env::var("SUDO_USER").ok();
    // Only for root is it set by sudo; any other user can set the variable themselves.
    named(process.uid(), &passwd, sudo.as_deref().filter(|_| process.uid() == 0))
}

fn named(uid: u32, passwd: &str, sudo: Option<&str>) -> String {
    let name = name_of(uid, passwd).map_or_else(|| format!("uid {uid}"), str::to_owned);
    match sudo {
        Some(by) => format!("{name} (sudo by {by})"),
        None => name,
    }
}

/// `alice:x:1000:…` is 1000's line.
fn name_of(uid: u32, passwd: &str) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/nowhere:/bin/bash\nalice:x:1000:1000::/nowhere:/bin/sh\n";

    #[test]
    fn an_account_names_a_person_where_the_machine_knows_one() {
        assert_eq!(named(1000, PASSWD, None), "alice");
        assert_eq!(named(0, PASSWD, Some("alice")), "root (sudo by alice)");
        assert_eq!(named(1001, PASSWD, None), "uid 1001");
        assert_eq!(named(0, "", None), "uid 0");
    }
}

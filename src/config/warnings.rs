//! What works but should not stay so in production.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use secrecy::ExposeSecret;

use super::Config;

impl Config {
    /// One sentence for each such setting; logged at the start and shown by `check`.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.wechat.api_base.starts_with("http://") {
            warnings.push(
                "wechat.api_base is plain http: app secrets and tokens are sent unencrypted".to_owned(),
            );
        }
        if let Some(host) = exposed_broker(self.amqp.url.expose_secret()) {
            warnings.push(format!("amqp.url connects to {host} without TLS: use amqps://"));
        }
        if let Some(host) = exposed_database(self.database.url.expose_secret()) {
            warnings.push(format!("database.url connects to {host} without TLS: add sslmode=require"));
        }
        if self.http.listen.is_some() {
            warnings.push(
                "http.listen is set, but this release has no API: the listener answers 404 to everything. Leave it empty"
                    .to_owned(),
            );
        }
        warnings.extend(match &self.security.master_key_file {
            None => Some(
                "security.master_key_file is not set: secrets are stored in plaintext in the database"
                    .to_owned(),
            ),
            Some(path) => path.metadata().ok().and_then(|facts| exposed_key(path, facts.mode(), facts.uid())),
        });
        warnings
    }
}

/// Group access to a key is right where root owns it and our group reads it; on a file of our own user it only serves others.
fn exposed_key(path: &Path, mode: u32, owner: u32) -> Option<String> {
    let readers = match mode & 0o044 {
        others if others & 0o004 != 0 => "every user of this machine",
        _group if mode & 0o040 != 0 && owner == rustix::process::geteuid().as_raw() => "its group",
        _ => return None,
    };
    let path = path.display();
    Some(format!("security.master_key_file {path} can be read by {readers}: run `chmod 600 {path}`"))
}

/// The broker's host, if it is another machine and the connection has no TLS.
fn exposed_broker(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("amqp://")?;
    Some(host(rest)).filter(|host| !is_local(host))
}

/// The database's host, likewise. Anything weaker than `require` may fall back to plain text.
fn exposed_database(url: &str) -> Option<&str> {
    let encrypted = ["require", "verify-ca", "verify-full"];
    if encrypted.iter().any(|mode| url.contains(&format!("sslmode={mode}"))) {
        return None;
    }
    let host = match url.split_once("://") {
        Some((_, rest)) => host(rest),
        // The other way to write it: `host=… user=…`.
        None => url.split_ascii_whitespace().find_map(|pair| pair.strip_prefix("host="))?,
    };
    Some(host).filter(|host| !is_local(host))
}

/// The host of what follows a URL's scheme, without credentials and port.
fn host(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    match address.strip_prefix('[').and_then(|ipv6| ipv6.split_once(']')) {
        Some((ipv6, _)) => ipv6,
        None => address.split(':').next().unwrap_or_default(),
    }
}

/// This machine: no name at all, its loopback, or a socket in a folder (a slash, which a URL writes as %2F).
fn is_local(host: &str) -> bool {
    let loopback = host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    loopback || matches!(host, "" | "localhost") || host.starts_with('/') || host.starts_with("%2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_way_to_another_machine_is_noticed() {
        assert_eq!(exposed_broker("amqp://u:p@ss@mq.example:5672/%2f"), Some("mq.example"));
        assert_eq!(exposed_database("postgres://u:p@db.example/n?sslmode=prefer"), Some("db.example"));
        assert_eq!(exposed_database("host=db.example user=u"), Some("db.example"));
    }

    #[test]
    fn a_key_that_others_can_read_is_noticed() {
        let me = rustix::process::geteuid().as_raw();
        let said = |mode, owner| exposed_key(Path::new("master.key"), mode, owner).unwrap_or_default();
        assert!(said(0o100_644, me).contains("every user"), "{}", said(0o100_644, me));
        assert!(said(0o100_640, me).contains("its group"));
        assert_eq!(said(0o100_600, me), "");
        assert_eq!(said(0o100_640, me + 1), "", "root's file, read through our group");
    }

    #[test]
    fn tls_or_the_own_machine_is_fine() {
        for url in ["amqps://u:p@mq.example/", "amqp://u:p@127.0.0.1:5672/%2f", "amqp://u:p@[::1]:5672"] {
            assert_eq!(exposed_broker(url), None, "{url}");
        }
        for url in
            ["postgres://u@db.example/n?sslmode=require", "postgres://u@localhost/n", "host=/run/postgresql"]
        {
            assert_eq!(exposed_database(url), None, "{url}");
        }
    }
}

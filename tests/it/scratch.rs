//! A schema of its own for each test, in the PostgreSQL that `WN_TEST_DATABASE_URL` names.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, NoTls};
use wechat_notifier::config;
use wechat_notifier::db::{Database, Planning};

/// One test's schema. It stays behind for a look afterwards; the server is a throw-away one.
pub struct Scratch {
    url: String,
}

impl Scratch {
    /// Makes an empty schema.
    pub async fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let server = std::env::var("WN_TEST_DATABASE_URL")
            .expect("WN_TEST_DATABASE_URL names a PostgreSQL for tests; tests/run starts one");
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let schema = format!("t{}_{number}_{:x}", std::process::id(), fastrand::u32(..));
        let client = connect(&server).await;
        client.execute(&format!("CREATE SCHEMA {schema}"), &[]).await.unwrap();
        let joint = if server.contains('?') { '&' } else { '?' };
        Self { url: format!("{server}{joint}options=-csearch_path%3D{schema}") }
    }

    /// The URL that leads to this schema.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The daemon's way in.
    pub fn database(&self) -> Database {
        let config = config::Database {
            url: self.url.clone().into(),
            migrate_on_start: false,
            pool_size: 4,
            ca_file: None,
        };
        Database::new(&config, Planning::Once).unwrap()
    }

    /// The test's own way in, for setting up and for looking.
    pub async fn client(&self) -> Client {
        connect(&self.url).await
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

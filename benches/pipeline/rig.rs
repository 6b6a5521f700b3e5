//! Everything that is set up once for all cases.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::books::Books;
use super::load::{self, Scale};
use super::publisher::Publisher;
use super::subject::{PREFIX, Program, Subject, Surroundings};
use super::wechat::WeChat;

/// The servers, with tables, queues and users in them.
pub struct Rig {
    pub daemons: Vec<Program>,
    pub scale: Scale,
    pub wechat: WeChat,
    pub publisher: Publisher,
    pub amqp_url: String,
    pub database_url: String,
    /// Tables with what the cases need and a ledger that is emptied before each run.
    pub small: Books,
    /// The same with years of history; made when the first case asks for it.
    pub large: Option<Books>,
    /// Runs so far: makes event ids of different runs differ.
    pub runs: u64,
    folder: PathBuf,
}

impl Rig {
    /// Uses the servers that `tests/servers/lifetime.sh` started for us.
    pub async fn set_up(daemons: Vec<Program>, scale: Scale) -> Result<Self> {
        let (amqp_url, database_url) = (given("WN_TEST_AMQP_URL")?, given("WN_TEST_DATABASE_URL")?);
        let wechat = WeChat::start()?;
        wechat.register(load::APP, load::SECRET).await?;
        let small = books(&daemons, &database_url, "small", &scale).await?;
        let mut rig = Self {
            publisher: Publisher::connect(&amqp_url, PREFIX).await?,
            folder: given("WN_SERVERS_FOLDER")?.into(),
            large: None,
            runs: 0,
            daemons,
            scale,
            wechat,
            amqp_url,
            database_url,
            small,
        };
        rig.declare().await?;
        Ok(rig)
    }

    /// A daemon declares its queues by itself.
    async fn declare(&mut self) -> Result<()> {
        let around = self.surroundings(false, 64, 64);
        let daemon = Subject::daemons(&self.daemons[0], 1, &around)?;
        daemon.ready().await?;
        daemon.end().await
    }

    /// Makes the tables with years of history, once.
    pub async fn age(&mut self) -> Result<()> {
        if self.large.is_none() {
            eprintln!("filling a ledger with {} rows", self.scale.ledger_rows);
            let books = books(&self.daemons, &self.database_url, "large", &self.scale).await?;
            books.age(&self.scale).await?;
            self.large = Some(books);
        }
        Ok(())
    }

    /// The tables that a case uses.
    pub fn books(&self, large: bool) -> &Books {
        self.large.as_ref().filter(|_| large).unwrap_or(&self.small)
    }

    pub fn surroundings(&self, large: bool, prefetch: u16, in_flight: usize) -> Surroundings<'_> {
        Surroundings {
            amqp_url: &self.amqp_url,
            database_url: &self.books(large).url,
            wechat: &self.wechat.base,
            prefetch,
            in_flight,
            log: self.folder.join("bench-subjects.log"),
        }
    }

    /// The processes of PostgreSQL and of RabbitMQ begin here.
    pub fn server_pids(&self) -> Result<(u32, u32)> {
        let pid = |server: &str| -> Result<u32> {
            let file = self.folder.join(server).join("pid");
            Ok(std::fs::read_to_string(&file)?.trim().parse()?)
        };
        Ok((pid("postgres")?, pid("broker")?))
    }
}

async fn books(daemons: &[Program], url: &str, schema: &str, scale: &Scale) -> Result<Books> {
    let books = Books::create(url, schema).await?;
    // The newest knows every migration; the others ignore what they do not know.
    let newest = daemons.last().context("no daemon")?;
    let migrated = Command::new(&newest.path)
        .arg("migrate")
        .env("DATABASE_URL", &books.url)
        .stdout(std::process::Stdio::null())
        .status()?;
    ensure!(migrated.success(), "`migrate` failed");
    books.seed(scale).await?;
    Ok(books)
}

fn given(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set; start me through benches/run"))
}

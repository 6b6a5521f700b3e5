//! Everything that is set up once for all cases.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::books::Books;
use super::case::{Case, Who};
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
    /// One a daemon.
    tables: Vec<Tables>,
    /// Runs so far: makes event ids of different runs differ.
    pub runs: u64,
    folder: PathBuf,
}

/// Tables of one daemon's own making: two commits may differ in their migrations.
struct Tables {
    /// With what the cases need, and a ledger that is emptied before each run.
    small: Books,
    /// The same with years of history; made when the first case asks for it.
    large: Option<Books>,
}

impl Rig {
    /// Uses the servers that `tests/servers/lifetime.sh` started for us.
    pub async fn set_up(daemons: Vec<Program>, scale: Scale) -> Result<Self> {
        let (amqp_url, database_url) = (given("WN_TEST_AMQP_URL")?, given("WN_TEST_DATABASE_URL")?);
        let wechat = WeChat::start()?;
        wechat.register(load::APP, load::SECRET).await?;
        let mut tables = Vec::new();
        for (which, daemon) in daemons.iter().enumerate() {
            let small = books(daemon, &database_url, &format!("small{which}"), &scale).await?;
            tables.push(Tables { small, large: None });
        }
        let mut rig = Self {
            publisher: Publisher::connect(&amqp_url, PREFIX).await?,
            folder: given("WN_SERVERS_FOLDER")?.into(),
            tables,
            runs: 0,
            daemons,
            scale,
            wechat,
            amqp_url,
            database_url,
        };
        rig.declare().await?;
        Ok(rig)
    }

    /// A daemon declares its queues by itself.
    async fn declare(&mut self) -> Result<()> {
        let around = self.surroundings(&self.tables[0].small, 64, 64);
        let daemon = Subject::daemons(&self.daemons[0], 1, &around)?;
        daemon.ready().await?;
        daemon.end().await
    }

    /// Makes the tables with years of history, once.
    pub async fn age(&mut self) -> Result<()> {
        for (which, (tables, daemon)) in self.tables.iter_mut().zip(&self.daemons).enumerate() {
            if tables.large.is_none() {
                eprintln!("filling a ledger with {} rows", self.scale.ledger_rows);
                let books = books(daemon, &self.database_url, &format!("large{which}"), &self.scale).await?;
                books.age(&self.scale).await?;
                tables.large = Some(books);
            }
        }
        Ok(())
    }

    /// The tables that a case uses.
    pub fn books(&self, case: &Case) -> &Books {
        let which = match case.who {
            // It asks no database.
            Who::Floor => 0,
            Who::Daemon { which, .. } => which,
        };
        let Tables { small, large } = &self.tables[which];
        large.as_ref().filter(|_| case.large).unwrap_or(small)
    }

    /// What a row of the large ledger takes, if there is one.
    pub async fn ledger_row_bytes(&self) -> Result<Option<f64>> {
        match self.tables.last().and_then(|newest| newest.large.as_ref()) {
            Some(books) => books.bytes_per_row().await.map(Some),
            None => Ok(None),
        }
    }

    /// What a subject of this case is told.
    pub fn surroundings_of(&self, case: &Case) -> Surroundings<'_> {
        self.surroundings(self.books(case), case.prefetch, case.in_flight)
    }

    fn surroundings<'a>(&'a self, books: &'a Books, prefetch: u16, in_flight: usize) -> Surroundings<'a> {
        Surroundings {
            amqp_url: &self.amqp_url,
            database_url: &books.url,
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

async fn books(daemon: &Program, url: &str, schema: &str, scale: &Scale) -> Result<Books> {
    let books = Books::create(url, schema).await?;
    let migrated = Command::new(&daemon.path)
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

//! `run`: the daemon. Started in a line, stopped in a line.

mod watch;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::Notify;

use crate::amqp::{Broker, Topology};
use crate::config::{Config, Retention};
use crate::db::claim::Lease;
use crate::db::listen::Listener as TokenListener;
use crate::db::{Database, Planning};
use crate::dead_letters::archiver::{self, Archiver};
use crate::dead_letters::{count_letters, purge_old, replay};
use crate::deliver::{Intake, Partners, Pipeline, Settings, Stops};
use crate::http;
use crate::lifecycle::{Heartbeats, Lifecycle, Readiness};
use crate::metrics::Metrics;
use crate::telemetry;
use crate::token::{RefreshResult, Refresher, Timing, TokenBook};
use crate::wechat;

/// A loop that shows no sign of life for this long hangs. Each beats every second, and the slowest thing one waits for in
/// between, a statement, gives up after ten.
const MAX_SILENCE: Duration = Duration::from_secs(60);
/// Retried deliveries get this part of the prefetch, so that they cannot starve fresh events.
const RETRIED_SHARE: u16 = 4;

/// Starts the daemon and runs it until it is told to stop.
pub async fn run(config: Config) -> Result<ExitCode> {
    telemetry::init(&config.log)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let lifecycle = Lifecycle::new(config.shutdown.drain).context("cannot listen for signals")?;
    let daemon = Daemon::assemble(&config, &lifecycle).await?;
    daemon.watch(&lifecycle);
    daemon.work(&config, &lifecycle);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), prefix = config.amqp.prefix, "started");
    let ending = lifecycle.wait().await;
    daemon.broker.close().await;
    tracing::info!(exit_code = ending.code(), "stopped");
    Ok(ending.into())
}

/// The parts, connected but not working yet.
struct Daemon {
    db: Database,
    broker: Arc<Broker>,
    pipeline: Arc<Pipeline>,
    metrics: Arc<Metrics>,
    /// Operators' pauses may have changed.
    pauses_announced: Arc<Notify>,
    heartbeats: Heartbeats,
    readiness: Readiness,
    retention: Retention,
}

impl Daemon {
    async fn assemble(config: &Config, lifecycle: &Lifecycle) -> Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let (heartbeats, readiness) = (Heartbeats::new(), Readiness::new(lifecycle.soft()));
        let sources = http::ops::Sources {
            metrics: Arc::clone(&metrics),
            heartbeats: heartbeats.clone(),
            readiness: readiness.clone(),
        };
        serve(config, lifecycle, sources).await?;

        let db = super::database_with(config, Planning::Once)?;
        if config.database.migrate_on_start {
            watch::migrate_when_there(&db, &lifecycle.soft()).await?;
        }
        let broker =
            Arc::new(Broker::start(&config.amqp, Topology::new(&config.amqp.prefix, &config.retry.delays))?);
        let wechat = wechat::Client::new(&config.wechat, config.delivery.concurrency)?;
        let listener = TokenListener::new(&config.database)?;
        let pauses_announced = listener.pauses();
        let tokens = refresher(listener, lifecycle, &db, &wechat, &metrics);
        let partners = Partners {
            db: db.clone(),
            broker: broker.as_ref().clone(),
            wechat,
            tokens,
            metrics: Arc::clone(&metrics),
        };
        let stops = Stops { soft: lifecycle.soft(), hard: lifecycle.hard() };
        let pipeline = Pipeline::start(settings(config), partners, stops);
        let retention = config.retention.clone();
        Ok(Self { db, broker, pipeline, metrics, pauses_announced, heartbeats, readiness, retention })
    }

    /// What keeps an eye on the parts, and tells operators.
    fn watch(&self, lifecycle: &Lifecycle) {
        let health = watch::broker(self.broker.health(), self.readiness.clone(), Arc::clone(&self.metrics));
        lifecycle.support("broker watch", until(lifecycle.hard(), health));
        let database = watch::database(self.db.clone(), self.readiness.clone());
        lifecycle.support("database watch", until(lifecycle.hard(), database));
        let lanes = Arc::clone(&self.pipeline).look_for_filled_lanes();
        lifecycle.support("lane watch", until(lifecycle.hard(), lanes));
        lifecycle.support(
            "letter census",
            until(lifecycle.hard(), count_letters(self.db.clone(), Arc::clone(&self.metrics))),
        );
        if let Some(keep) = self.retention.dead_letters {
            lifecycle.support("letter retention", until(lifecycle.hard(), purge_old(self.db.clone(), keep)));
        }
        let pauses = Arc::clone(&self.pipeline).keep_pauses_in_step(Arc::clone(&self.pauses_announced));
        lifecycle.support("table of pauses", until(lifecycle.hard(), pauses));
        let (db, metrics) = (self.db.clone(), Arc::clone(&self.metrics));
        let replays = replay::Watch { db, metrics, pipeline: Arc::clone(&self.pipeline) }.run();
        lifecycle.support("replay watch", until(lifecycle.hard(), replays));
        let depths = watch::depths(Arc::clone(&self.broker), Arc::clone(&self.metrics));
        lifecycle.support("queue depths", until(lifecycle.hard(), depths));
    }

    /// The consumers: fresh events, retried deliveries, letters.
    fn work(&self, config: &Config, lifecycle: &Lifecycle) {
        let topology = self.broker.topology();
        let retried = (config.amqp.prefetch / RETRIED_SHARE).max(1);
        let events = self.broker.consume(&topology.events(), config.amqp.prefetch);
        let limits = Arc::clone(&self.pipeline).follow_limits(events.attached());
        lifecycle.support("limits watch", until(lifecycle.hard(), limits));
        let attached = watch::consumer(events.attached(), self.readiness.clone());
        lifecycle.support("consumer watch", until(lifecycle.hard(), attached));

        for (name, subscription) in
            [("events", events), ("deliveries", self.broker.consume(&topology.deliveries(), retried))]
        {
            let intake = Intake::new(Arc::clone(&self.pipeline));
            let beat = self.heartbeats.register(name, MAX_SILENCE);
            lifecycle.supervise(name, async move {
                intake.feed(subscription, move || beat.beat()).await;
                intake.drain().await;
            });
        }
        let archiver =
            Archiver { db: self.db.clone(), metrics: Arc::clone(&self.metrics), stop: lifecycle.soft() };
        let letters = self.broker.consume(&topology.dead(), archiver::PREFETCH);
        let beat = self.heartbeats.register("archiver", MAX_SILENCE);
        lifecycle.supervise("archiver", archiver.run(letters, move || beat.beat()));
    }
}

/// Both listeners. They come up first, so that probes can see why the rest is not there yet.
async fn serve(config: &Config, lifecycle: &Lifecycle, sources: http::ops::Sources) -> Result<()> {
    let ops = http::Listener::bind(config.ops.listen, "ops.listen").await?;
    tracing::info!(listener = "ops", address = %ops.local_addr()?, "listening");
    lifecycle.support("ops listener", http::serve(ops, http::ops::router(sources), lifecycle.hard()));
    if let Some(address) = config.http.listen {
        let api = http::Listener::bind(address, "http.listen").await?;
        tracing::info!(listener = "api", address = %api.local_addr()?, "listening");
        lifecycle.support("api listener", http::serve(api, http::api::router(), lifecycle.hard()));
    }
    Ok(())
}

fn refresher(
    listener: TokenListener,
    lifecycle: &Lifecycle,
    db: &Database,
    wechat: &wechat::Client,
    metrics: &Arc<Metrics>,
) -> TokenBook {
    let told = Arc::clone(metrics);
    let hook = Arc::new(move |app_id: &_, result: RefreshResult| {
        told.register_app(app_id);
        told.token_refresh(app_id, result.as_str());
        if let Some(expires_at) = result.expires_at(crate::clock::now()) {
            told.token_expires(app_id, expires_at);
        }
    });
    let (timing, stop) = (Timing::default(), lifecycle.hard());
    let (tokens, task) = Refresher::start(db.clone(), listener, wechat.clone(), timing, hook, stop);
    lifecycle.support("token refresher", async move {
        // A panic of the task shows as its end here, which the lifecycle reports by name.
        let _ = task.await;
    });
    tokens
}

fn settings(config: &Config) -> Settings {
    Settings {
        ladder: config.retry.delays.clone(),
        on_unknown: config.delivery.on_unknown,
        default_ttl: config.delivery.default_ttl,
        request_timeout: config.wechat.request_timeout,
        lease: Lease {
            lasts: config.wechat.request_timeout + config.delivery.lease_margin,
            grace: config.delivery.takeover_grace,
        },
        max_hold: config.delivery.max_hold,
        max_body_bytes: config.amqp.max_body_bytes,
        concurrency: config.delivery.concurrency,
    }
}

/// A watch that has no end of its own, until the stop.
async fn until(stop: tokio_util::sync::CancellationToken, watch: impl Future<Output = ()>) {
    stop.run_until_cancelled(watch).await;
}

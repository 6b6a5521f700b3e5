//! `run`: the daemon, from start to stop.

mod watch;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::Notify;

use crate::amqp::{Broker, Topology};
use crate::cli::database;
use crate::config::{Config, Retention};
use crate::db::ledger::claim::Lease;
use crate::db::listen::Listener as TokenListener;
use crate::db::{Database, Health, Planning};
use crate::dead_letters::archiver::{self, Archiver};
use crate::dead_letters::{count_dead_letters, count_unfinished, purge_old, remove_old, replay};
use crate::http;
use crate::lifecycle::{AfterPanic, Lifecycle, News, Part, Readiness, Task};
use crate::metrics::Metrics;
use crate::pipeline::{Partners, Pipeline, Settings, Source, Stops};
use crate::telemetry;
use crate::token::{self, RefreshResult, Refresher, Timing, TokenCache};
use crate::wechat;

/// Retried deliveries get this part of the prefetch, so that they cannot starve fresh events.
const RETRIED_SHARE: u16 = 4;

/// Starts the daemon and runs it until a signal stops it.
pub async fn run(config: Config) -> Result<ExitCode> {
    telemetry::init(&config.log)?;
    tracing::info!(
        file = config.file.as_deref().map(|file| tracing::field::display(file.display())),
        "configuration: {}",
        config.read_from()
    );
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
    /// Notified when operators' pauses may have changed.
    pauses_announced: Arc<Notify>,
    readiness: Readiness,
    retention: Retention,
    /// A row that has not moved for this long is stranded.
    unmoved_for: Duration,
}

impl Daemon {
    async fn assemble(config: &Config, lifecycle: &Lifecycle) -> Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let readiness = Readiness::new(lifecycle.soft());
        let sources = http::ops::Sources {
            metrics: Arc::clone(&metrics),
            heartbeats: lifecycle.tasks().heartbeats().clone(),
            readiness: readiness.clone(),
        };
        serve(config, lifecycle, sources).await?;
        tell_of_panics(lifecycle, readiness.clone(), Arc::clone(&metrics));

        let db = database::open_with(config, Planning::Once)?.watched_by(database_health(&metrics));
        let migrates = config.database.migrate_on_start;
        watch::tables_when_there(&db, migrates, &readiness, &lifecycle.soft()).await?;
        let broker = Arc::new(Broker::start(
            &config.amqp,
            Topology::new(&config.amqp.prefix, &config.retry.delays),
            &lifecycle.tasks(),
        )?);
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
            tasks: lifecycle.tasks(),
        };
        let stops = Stops { soft: lifecycle.soft(), hard: lifecycle.hard() };
        let pipeline = Pipeline::start(settings(config), partners, stops);
        let (retention, unmoved_for) = (config.retention.clone(), config.moved_within());
        Ok(Self { db, broker, pipeline, metrics, pauses_announced, readiness, retention, unmoved_for })
    }

    /// Starts the tasks that watch the parts and report to operators.
    fn watch(&self, lifecycle: &Lifecycle) {
        let (broker, db, pipeline) = (self.broker.clone(), self.db.clone(), self.pipeline.clone());
        let (metrics, readiness) = (Arc::clone(&self.metrics), self.readiness.clone());
        lifecycle.keep(Task::BrokerWatch, {
            let (health, readiness, metrics) = (broker.health(), readiness.clone(), metrics.clone());
            move || watch::broker(health.clone(), readiness.clone(), metrics.clone())
        });
        lifecycle.keep_beating(Task::DatabaseWatch, {
            let (db, readiness, metrics) = (db.clone(), readiness.clone(), metrics.clone());
            move |beat| watch::database(db.clone(), readiness.clone(), metrics.clone(), beat)
        });
        lifecycle.keep_beating(Task::ProgressWatch, {
            let (detector, metrics) = (pipeline.stall_detector.clone(), metrics.clone());
            move |beat| watch::progress(detector.clone(), readiness.clone(), metrics.clone(), beat)
        });
        lifecycle.keep_beating(Task::LaneWatch, {
            let lane_watch = pipeline.lane_watch.clone();
            move |beat| lane_watch.clone().run(beat)
        });
        lifecycle.keep_beating(Task::DeadLetterCensus, {
            let (db, metrics) = (db.clone(), metrics.clone());
            move |beat| count_dead_letters(db.clone(), metrics.clone(), beat)
        });
        lifecycle.keep_beating(Task::UnfinishedCensus, {
            let (db, metrics, unmoved_for) = (db.clone(), metrics.clone(), self.unmoved_for);
            move |beat| count_unfinished(db.clone(), metrics.clone(), unmoved_for, beat)
        });
        if let Some(keep) = self.retention.dead_letters {
            let db = db.clone();
            lifecycle.keep(Task::DeadLetterRetention, move || purge_old(db.clone(), keep));
        }
        if let Some(keep) = self.retention.deliveries {
            let (db, metrics) = (db.clone(), metrics.clone());
            lifecycle.keep(Task::LedgerRetention, move || remove_old(db.clone(), metrics.clone(), keep));
        }
        lifecycle.keep_beating(Task::Pauses, {
            let (report, announced) = (pipeline.pause_report.clone(), self.pauses_announced.clone());
            move |beat| report.clone().keep_in_step(announced.clone(), beat)
        });
        lifecycle.keep_beating(Task::BrokerProbe, {
            let broker = broker.clone();
            move |beat| watch::probe(broker.clone(), beat)
        });
        lifecycle.keep_beating(Task::QueueDepths, {
            let metrics = metrics.clone();
            move |beat| watch::queues(broker.clone(), metrics.clone(), beat)
        });
        lifecycle.keep_beating(Task::ReplayWatch, {
            let lane_watch = pipeline.lane_watch.clone();
            move |beat| {
                let (db, metrics, lane_watch) = (db.clone(), metrics.clone(), lane_watch.clone());
                replay::Watch { db, metrics, lane_watch }.run(beat)
            }
        });
    }

    /// The consumers: fresh events, retried deliveries, dead letters.
    fn work(&self, config: &Config, lifecycle: &Lifecycle) {
        let topology = self.broker.topology();
        let retried = (config.amqp.prefetch / RETRIED_SHARE).max(1);
        let events = self.broker.consume(&topology.events(), config.amqp.prefetch);
        lifecycle.keep_beating(Task::Limits, {
            let (limit_watch, attached) = (self.pipeline.limit_watch.clone(), events.attached());
            move |beat| limit_watch.clone().run(attached.clone(), beat)
        });
        lifecycle.keep(Task::ConsumerWatch, {
            let (attached, readiness) = (events.attached(), self.readiness.clone());
            move || watch::consumer(attached.clone(), readiness.clone())
        });
        let deliveries = self.broker.consume(&topology.deliveries(), retried);
        for (task, subscription, source) in
            [(Task::Events, events, Source::Publishers), (Task::Deliveries, deliveries, Source::Ourselves)]
        {
            let (pipeline, beat) = (Arc::clone(&self.pipeline), lifecycle.tasks().beat(task));
            lifecycle.supervise(task, async move {
                pipeline.feed(subscription, source, move || beat.beat()).await;
                pipeline.drain().await;
            });
        }
        let archiver =
            Archiver { db: self.db.clone(), metrics: Arc::clone(&self.metrics), stop: lifecycle.soft() };
        let dead_letters = self.broker.consume(&topology.dead(), archiver::PREFETCH);
        let beat = lifecycle.tasks().beat(Task::Archiver);
        lifecycle.supervise(Task::Archiver, archiver.run(dead_letters, move || beat.beat()));
    }
}

/// Both listeners. They start first, so that probes can see why the rest is not ready yet.
async fn serve(config: &Config, lifecycle: &Lifecycle, sources: http::ops::Sources) -> Result<()> {
    let ops = http::Listener::bind(config.ops.listen, "ops.listen").await?;
    tracing::info!(listener = "ops", address = %ops.local_addr()?, "listening");
    lifecycle.support(Task::OpsListener, http::serve(ops, http::ops::router(sources), lifecycle.hard()));
    if let Some(address) = config.http.listen {
        let api = http::Listener::bind(address, "http.listen").await?;
        tracing::info!(listener = "api", address = %api.local_addr()?, "listening");
        lifecycle.support(Task::ApiListener, http::serve(api, http::api::router(), lifecycle.hard()));
    }
    Ok(())
}

fn refresher(
    listener: TokenListener,
    lifecycle: &Lifecycle,
    db: &Database,
    wechat: &wechat::Client,
    metrics: &Arc<Metrics>,
) -> TokenCache {
    let told = Arc::clone(metrics);
    let hook = Arc::new(move |app_id: &_, result: RefreshResult| {
        told.register_app(app_id);
        if let Some(word) = result.as_str() {
            told.token_refresh(app_id, word);
        }
        if let Some(expires_at) = result.expires_at(crate::clock::now()) {
            told.token_expires(app_id, expires_at);
        }
    });
    let around = token::Surroundings { tasks: lifecycle.tasks(), stop: lifecycle.hard() };
    let (tokens, task) =
        Refresher::start(db.clone(), listener, wechat.clone(), Timing::default(), hook, around);
    lifecycle.support(Task::TokenRefresher, async move {
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

/// Every failed statement is counted, whichever part ran it.
fn database_health(metrics: &Arc<Metrics>) -> Health {
    let metrics = Arc::clone(metrics);
    Health::new(Some(Arc::new(move |statement, sqlstate| metrics.database_error(statement, sqlstate))))
}

/// A panic of a long-lived task is counted, and the process is not ready until the task works again.
fn tell_of_panics(lifecycle: &Lifecycle, readiness: Readiness, metrics: Arc<Metrics>) {
    readiness.set(Part::Tasks, Ok(()));
    lifecycle.tasks().tell(Box::new(move |task, news| {
        let name = task.as_str();
        let state = match (news, task.after_panic()) {
            (News::Works, _) => Ok(()),
            (News::Panicked, AfterPanic::Restart) => Err(format!("{name} panicked and is started again")),
            (News::Panicked, AfterPanic::Exit) => Err(format!("{name} died: the process stops")),
        };
        if news == News::Panicked {
            metrics.task_panic(name);
        }
        readiness.set(Part::Tasks, state);
    }));
}

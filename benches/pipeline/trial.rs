//! One measured run: the load, the processes, the looks, and the proof that nothing was lost or doubled.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::books::Statement;
use super::case::{Case, Pace, Who};
use super::latency::{self, Latency};
use super::load::{self, Event, Kind};
use super::rig::Rig;
use super::sampling::{self, Stretch};
use super::subject::Subject;

/// Before a steady stream is measured it runs for this long.
const WARM_UP_SECONDS: f64 = 1.0;

/// What one run came to. Times are CPU time per delivery, in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    pub case: String,
    pub round: u32,
    /// Deliveries that came to their end, per second.
    pub rate: f64,
    pub subject_us: f64,
    pub postgres_us: f64,
    pub rabbitmq_us: f64,
    pub peak_kib: u64,
    pub statements_per_event: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// What PostgreSQL did, by statement.
    pub statements: BTreeMap<String, Statement>,
}

/// A run under way.
pub struct Trial<'a> {
    rig: &'a Rig,
    case: &'a Case,
    run: u64,
    sends_before: u64,
    doubles_before: u64,
}

/// What was measured of a run, before it is put per delivery.
struct Measured {
    stretch: Stretch,
    events: u64,
    latency: Option<Latency>,
}

impl<'a> Trial<'a> {
    /// Brings servers and tables into the state that the case begins with.
    pub async fn prepare(rig: &'a Rig, case: &'a Case, run: u64) -> Result<Self> {
        rig.publisher.purge().await?;
        rig.wechat.behave(case.latency_ms, case.failing_every).await?;
        if !case.large {
            rig.books(case).forget().await?;
        }
        let (sends_before, doubles_before) = (rig.wechat.sends().await?, rig.wechat.doubles().await?);
        Ok(Self { rig, case, run, sends_before, doubles_before })
    }

    /// Runs it. `per_second`: at this steady pace; else as fast as it goes.
    pub async fn run(self, round: u32, per_second: Option<f64>) -> Result<Figures> {
        let books = self.rig.books(self.case);
        let (subject, measured) = match (per_second, self.case.kind) {
            (Some(per_second), _) => self.steady(per_second).await?,
            (None, Kind::All) => self.for_all().await?,
            (None, kind) if self.case.pace == Pace::AsWorkedOff => self.published_meanwhile(kind).await?,
            (None, kind) => self.work_off_a_full_queue(kind).await?,
        };
        let peak_kib = subject.peak_memory_kib()?;
        let statements = books.statements().await?;
        subject.end().await?;
        self.prove().await?;
        Ok(self.figures(round, &measured, peak_kib, statements))
    }

    /// The queue is full before anybody works: the publisher takes no share of the machine.
    async fn work_off_a_full_queue(&self, kind: Kind) -> Result<(Subject, Measured)> {
        let (events, expected) = (kind.events(&self.rig.scale), kind.sends(&self.rig.scale));
        self.rig.publisher.fill(self.events(0..events)).await?;
        self.rig.books(self.case).count_anew().await?;
        let subject = self.start()?;
        let samples = sampling::watch(self.rig, &subject, self.sends_before, expected).await?;
        Ok((subject, Measured { stretch: sampling::middle(&samples), events, latency: None }))
    }

    /// The publisher works beside the subject, no faster than that: what the machine sustains with all of the work on it.
    async fn published_meanwhile(&self, kind: Kind) -> Result<(Subject, Measured)> {
        let (events, expected) = (kind.events(&self.rig.scale), kind.sends(&self.rig.scale));
        let subject = self.start()?;
        subject.ready().await?;
        self.rig.books(self.case).count_anew().await?;
        let done = async || Ok(self.rig.wechat.sends().await?.saturating_sub(self.sends_before));
        let ((), samples) = tokio::try_join!(
            self.rig.publisher.keep_ahead(self.events(0..events), done),
            sampling::watch(self.rig, &subject, self.sends_before, expected)
        )?;
        Ok((subject, Measured { stretch: sampling::middle(&samples), events, latency: None }))
    }

    /// One event, and the clock runs from its publication: writing its rows is part of the work.
    async fn for_all(&self) -> Result<(Subject, Measured)> {
        let subject = self.start()?;
        subject.ready().await?;
        self.rig.books(self.case).count_anew().await?;
        let begin = sampling::look(self.rig, &subject, self.sends_before).await?;
        self.rig.publisher.fill(self.events(0..1)).await?;
        let expected = Kind::All.sends(&self.rig.scale);
        let mut samples = vec![begin];
        samples.extend(sampling::watch(self.rig, &subject, self.sends_before, expected).await?);
        Ok((subject, Measured { stretch: sampling::whole(&samples), events: 1, latency: None }))
    }

    /// The publisher works beside the subject, for as many events as the simulator keeps requests.
    async fn steady(&self, per_second: f64) -> Result<(Subject, Measured)> {
        let (warm_up, events) = self.case.steady_events(per_second, self.rig.scale.people);
        let subject = self.start()?;
        subject.ready().await?;
        self.rig.publisher.steadily(per_second, self.events(0..warm_up)).await?;
        self.rig.books(self.case).count_anew().await?;
        let begin = sampling::look(self.rig, &subject, self.sends_before).await?;
        let stream = self.events(warm_up..warm_up + events);
        let published = self.rig.publisher.steadily(per_second, stream).await?;
        let expected = warm_up + events;
        let mut samples = vec![begin];
        samples.extend(sampling::watch(self.rig, &subject, self.sends_before, expected).await?);
        let latency = latency::measured(&published, &self.rig.wechat.received().await?)?;
        Ok((subject, Measured { stretch: sampling::whole(&samples), events, latency: Some(latency) }))
    }

    fn events(&self, numbers: std::ops::Range<u64>) -> impl Iterator<Item = Event> {
        let (kind, run) = (self.case.kind, self.run);
        numbers.map(move |number| load::event(kind, run, number))
    }

    fn start(&self) -> Result<Subject> {
        let around = self.rig.surroundings_of(self.case);
        match self.case.who {
            Who::Floor => Subject::floor(&around),
            Who::Daemon { which, processes } => {
                Subject::daemons(&self.rig.daemons[which], processes, &around)
            }
        }
    }

    /// A run that loses or doubles a message is no measurement.
    async fn prove(&self) -> Result<()> {
        let doubles = self.rig.wechat.doubles().await? - self.doubles_before;
        ensure!(doubles == 0 || self.case.who == Who::Floor, "{}: {doubles} doubles", self.case.name);
        let unfinished = self.rig.books(self.case).unfinished().await?;
        ensure!(unfinished == 0, "{}: {unfinished} rows came to no end", self.case.name);
        Ok(())
    }

    fn figures(
        &self,
        round: u32,
        measured: &Measured,
        peak_kib: u64,
        statements: BTreeMap<String, Statement>,
    ) -> Figures {
        let scale = &self.rig.scale;
        let per_send = self.case.kind.deliveries(scale) as f64 / self.case.kind.sends(scale) as f64;
        let stretch = &measured.stretch;
        let deliveries = stretch.sends as f64 * per_send;
        let calls: i64 = statements.values().map(|statement| statement.calls).sum();
        let micros = |cpu: std::time::Duration| cpu.as_secs_f64() * 1e6 / deliveries;
        Figures {
            case: self.case.name.clone(),
            round,
            rate: deliveries / stretch.took.as_secs_f64(),
            subject_us: micros(stretch.cpu.subject),
            postgres_us: micros(stretch.cpu.postgres),
            rabbitmq_us: micros(stretch.cpu.rabbitmq),
            peak_kib,
            statements_per_event: (self.case.who != Who::Floor)
                .then(|| calls as f64 / measured.events as f64),
            p50_ms: measured.latency.map(|latency| latency.p50_ms),
            p99_ms: measured.latency.map(|latency| latency.p99_ms),
            statements,
        }
    }
}

impl Case {
    /// Events of the warm-up and of the measurement: each to a user of his own, and no more than the simulator remembers.
    fn steady_events(&self, per_second: f64, people: u64) -> (u64, u64) {
        let count = |seconds: f64| (per_second * seconds) as u64;
        let warm_up = count(WARM_UP_SECONDS).min(people / 4);
        // Some of the warm-up may come late, and the simulator keeps the newest requests whoever they were for.
        let most = (people - warm_up).min(super::wechat::REQUESTS_KEPT as u64 * 9 / 10);
        (warm_up, count(self.seconds).min(most))
    }
}

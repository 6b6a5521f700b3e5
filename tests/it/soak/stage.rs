//! The world of a soak: servers, WeChat, daemons, and what is done to them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::plan::{Consent, Deed, How, Server, What};
use crate::support::{APP, Daemon, Roads, Servers, TEMPLATE, World};

pub const APPS: [&str; 3] = [APP, "wx-other", "wx-third"];
/// Users of each app; a crowd is all of them.
pub const USERS: u32 = 700;
/// Requests at once, of one daemon.
const CONCURRENCY: u32 = 32;
/// Who changes his mind at once.
const MINDS: u32 = 20;

pub struct Stage {
    // In this order they end: daemons first, servers last.
    seats: Vec<Seat>,
    pub world: World,
    pub servers: Servers,
    /// The simulator's numbers of the faults that it has, by the plan's.
    rules: HashMap<usize, Value>,
}

/// A daemon's place: whoever sits there takes the same roads.
struct Seat {
    daemon: Daemon,
    roads: Roads,
}

impl Seat {
    fn spawn(world: &World, roads: &Roads) -> Daemon {
        let concurrency = CONCURRENCY.to_string();
        let settings = [
            ("DELIVERY__CONCURRENCY", concurrency.as_str()),
            // Holders are back at a restarted database by then.
            ("DELIVERY__TAKEOVER_GRACE", "10s"),
            ("LOG__LEVEL", "info"),
        ];
        world.spawn(&[&settings[..], &roads.settings()].concat())
    }

    /// In order, which takes a process that has come as far as to hear signals.
    async fn stops(&mut self) {
        self.daemon.says(&["listening"]).await;
        self.daemon.terminate();
        assert_eq!(self.daemon.exit().await, Some(0), "the daemon did not stop in order");
    }
}

impl Stage {
    /// Apps of both token kinds, users who are willing, daemons that are ready.
    pub async fn set(processes: usize) -> Self {
        let servers = Servers::of_the_script();
        let world = World::on(&servers.amqp_url, &servers.database_url).await;
        for app in APPS {
            if app != APP {
                world.app(app, "secret").await;
            }
            world.crowd_of(app, i32::try_from(USERS).unwrap()).await;
            world.wechat.tell("latency", json!({"ms": 30, "appid": app})).await;
        }
        world.sql("UPDATE t_wechat_app SET token_api = 'classic' WHERE app_id = 'wx-other'").await;
        let mut seats = Vec::new();
        for _ in 0..processes {
            let roads = Roads::to(&world).await;
            seats.push(Seat { daemon: Seat::spawn(&world, &roads), roads });
        }
        for seat in &seats {
            seat.daemon.until_ready().await;
        }
        Self { seats, world, servers, rules: HashMap::new() }
    }

    pub async fn does(&mut self, deed: &Deed) {
        match &deed.what {
            What::Kill { daemon } => {
                self.seats[*daemon].daemon.kill();
                self.takes_a_seat(*daemon);
            }
            What::Restart { daemon } => {
                self.seats[*daemon].stops().await;
                self.takes_a_seat(*daemon);
            }
            What::RestartBroker => self.servers.tell("broker-restart").await,
            What::RestartPostgres => self.servers.tell("postgres-restart").await,
            What::CrashPostgres => {
                self.servers.tell("postgres-stop-immediate").await;
                self.servers.tell("postgres-start").await;
            }
            What::Road { daemon, to, how } => self.goes_bad(*daemon, *to, *how),
            What::RoadHeals { daemon, to } => self.seats[*daemon].roads.to_server(*to).heal(),
            What::WeChat { number, rule } => {
                let id = self.world.wechat.tell("faults", rule.clone()).await["id"].clone();
                self.rules.insert(*number, id);
            }
            What::WeChatHeals { number } => {
                let id = self.rules.remove(number).expect("it was begun");
                self.world.wechat.lift(&id).await;
            }
            What::InvalidateToken { app } => {
                self.world.wechat.tell("tokens/invalidate", json!({"appid": APPS[*app]})).await;
            }
            What::Consent { first, change } => self.minds_change(*first, *change).await,
        }
    }

    fn takes_a_seat(&mut self, seat: usize) {
        let seat = &mut self.seats[seat];
        seat.daemon = Seat::spawn(&self.world, &seat.roads);
    }

    fn goes_bad(&self, daemon: usize, to: Server, how: How) {
        let road = self.seats[daemon].roads.to_server(to);
        match how {
            How::Cut => road.cut(),
            How::Close => road.close(),
            How::Stall => road.stall(),
            How::HoldAnswers => road.hold_answers(),
            How::Part => road.part(),
            How::Silence => road.silence(),
            How::Slow => road.delay(Duration::from_millis(200)),
        }
    }

    async fn minds_change(&mut self, first: u32, change: Consent) {
        let record = match change {
            Consent::Withdrawn => json!({"status": "reject"}),
            Consent::Given => json!({"status": "accept"}),
            Consent::Counted => json!({"status": "accept", "remaining": 2}),
        };
        self.world.reconnect().await;
        for user in first..first + MINDS {
            let openid = format!("openid-{user}");
            if change == Consent::Counted {
                let hers = json!({"openid": openid, "template_id": TEMPLATE, "remaining": 2});
                self.world.wechat.tell("consent", hers).await;
            }
            let sql = "UPDATE t_wechat_user SET subscribe_template = $2 WHERE openid = $1";
            self.world.db.execute(sql, &[&openid, &json!({ TEMPLATE: record })]).await.unwrap();
        }
    }

    /// Everything is well from now on.
    pub async fn heals(&mut self) {
        for road in self.seats.iter().flat_map(|seat| seat.roads.each()) {
            road.heal();
        }
        self.world.wechat.heal().await;
        self.world.reconnect().await;
    }

    /// Waits until every row is finished and every queue empty, also of what daemons held in their hands. `false`: not by then.
    pub async fn settles(&mut self, within: Duration, least_rows: i64) -> bool {
        let deadline = Instant::now() + within;
        while self.is_settled(deadline, least_rows).await {
            self.all_stop().await;
            if self.world.queued().await == 0 {
                return true;
            }
            for seat in 0..self.seats.len() {
                self.takes_a_seat(seat);
            }
        }
        false
    }

    async fn is_settled(&self, deadline: Instant, least_rows: i64) -> bool {
        loop {
            let (rows, gaps) = (self.count("t_wechat_delivery").await, self.gaps().await);
            if rows >= least_rows && gaps == 0 && self.world.queued().await == 0 {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn all_stop(&mut self) {
        for seat in &mut self.seats {
            seat.stops().await;
        }
    }

    /// Rows of the conservation view.
    pub async fn gaps(&self) -> i64 {
        self.count("v_wechat_conservation").await
    }

    async fn count(&self, of: &str) -> i64 {
        self.world.db.query_one(&format!("SELECT count(*) FROM {of}"), &[]).await.unwrap().get(0)
    }

    /// The first rows of the conservation view, for whoever looks into it.
    pub async fn first_gaps(&self) -> Vec<String> {
        let sql = "SELECT v::text FROM v_wechat_conservation v LIMIT 20";
        self.world.db.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(300);

impl Roads {
    fn to_server(&self, to: Server) -> &crate::support::Proxy {
        match to {
            Server::Broker => &self.broker,
            Server::Database => &self.database,
            Server::WeChat => &self.wechat,
        }
    }
}

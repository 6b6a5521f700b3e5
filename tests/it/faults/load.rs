//! The load that every fault meets: fresh events, retried deliveries and a fan-out of more than a page, all at once.

use std::ops::RangeInclusive;

use serde_json::json;

use crate::support::{APP, Daemon, EventBody, Servers, World, event, eventually};

/// How a delivery comes to its attempt. A fault must be survived by each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Straight from its event.
    Fresh,
    /// WeChat is away for this user twice: from its own message, off the ladder.
    Retried,
    /// From a page of an event for many.
    Page,
}

pub const KINDS: [Kind; 3] = [Kind::Page, Kind::Retried, Kind::Fresh];

/// All users of all kinds.
pub const USERS: i32 = 840;
/// Requests at once, of one daemon.
const CONCURRENCY: &str = "32";
/// Three seconds of work for one daemon, so that a fault finds it in the middle.
const LATENCY_MS: u64 = 80;

impl Kind {
    fn users(self) -> RangeInclusive<i32> {
        match self {
            Self::Fresh => 1..=200,
            Self::Retried => 201..=260,
            Self::Page => 261..=USERS,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Retried => "retried",
            Self::Page => "page",
        }
    }

    fn events(self) -> Vec<EventBody> {
        let users: Vec<String> = self.users().map(|n| format!("user-{n}")).collect();
        match self {
            Self::Page => vec![event("page-all").with("sys_user_ids", users)],
            _ => users.iter().map(|user| event(&format!("{}-{user}", self.name())).to(&[user])).collect(),
        }
    }
}

/// A world with the load's people in it.
pub struct Load {
    // In this order they end: the servers last.
    pub world: World,
    pub servers: Option<Servers>,
}

/// What it came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Toll {
    pub unknowns: i64,
    pub doubles: i64,
}

impl Toll {
    pub const NOTHING: Self = Self { unknowns: 0, doubles: 0 };
}

impl Load {
    /// On the servers that all tests share.
    pub async fn new() -> Self {
        Self::in_world(World::new().await, None).await
    }

    /// On servers of its own, which may be stopped.
    pub async fn on_own_servers(name: &str) -> Self {
        let servers = Servers::start(name);
        let world = World::on(&servers.amqp_url, &servers.database_url).await;
        Self::in_world(world, Some(servers)).await
    }

    async fn in_world(world: World, servers: Option<Servers>) -> Self {
        world.crowd(USERS).await;
        world.wechat.tell("latency", json!({"ms": LATENCY_MS, "appid": APP})).await;
        let away = json!({"http_status": 503, "headers": {"Retry-After": "0"}});
        for user in Kind::Retried.users() {
            let hers = json!({"path": "send", "openid": format!("openid-{user}")});
            world.wechat.fault(json!({"match": hers, "times": 2, "action": away})).await;
        }
        Self { world, servers }
    }

    /// A daemon with these settings besides.
    pub async fn daemon(&self, settings: &[(&str, &str)]) -> Daemon {
        self.daemon_in(&[], settings).await
    }

    /// The same with these variables in its environment.
    pub async fn daemon_in(&self, surroundings: &[(&str, &str)], settings: &[(&str, &str)]) -> Daemon {
        let own = [
            ("DELIVERY__CONCURRENCY", CONCURRENCY),
            // A slow machine is no reason for a take-over, and holders are back at a restarted database in time.
            ("DELIVERY__LEASE_MARGIN", "8s"),
            ("DELIVERY__TAKEOVER_GRACE", "10s"),
        ];
        let daemon = self.world.spawn_in(surroundings, &[&own, settings].concat());
        daemon.until_ready().await;
        daemon
    }

    /// Publishes everything, and waits until each kind is in the middle of its work. One after the other: within an app a
    /// crowd stands behind whoever waits for his own message.
    pub async fn begins(&self) {
        for kind in KINDS {
            self.world.publish_all(kind.events()).await;
            eventually("it to be at work", async || self.is_at_work(kind).await.then_some(())).await;
        }
        for kind in KINDS {
            let (ended, all) = (self.ended(kind).await, kind.users().count());
            assert!(
                ended < i64::try_from(all).unwrap(),
                "the {} ones are over: nothing was shown",
                kind.name()
            );
        }
    }

    async fn is_at_work(&self, kind: Kind) -> bool {
        match kind {
            Kind::Retried => self.count("event_id LIKE 'retried-%' AND epoch > 0").await > 0,
            Kind::Fresh | Kind::Page => self.ended(kind).await > 0,
        }
    }

    async fn ended(&self, kind: Kind) -> i64 {
        let name = kind.name();
        self.count(&format!("event_id LIKE '{name}-%' AND status IN ('sent', 'skipped', 'dead')")).await
    }

    /// How many rows are so.
    pub async fn count(&self, so: &str) -> i64 {
        let question = format!("SELECT count(*) FROM t_wechat_delivery WHERE {so}");
        self.world.db.query_one(&question, &[]).await.unwrap().get(0)
    }

    /// Waits until at least this many messages have gone out, whoever got them.
    pub async fn sent_reaches(&self, count: i64) {
        eventually(&format!("{count} messages to be out"), async || {
            (self.world.wechat.got_by_all().await >= count).then_some(())
        })
        .await;
    }

    /// Everybody of every kind got the message, every queue is empty, the daemons stop in order.
    pub async fn everybody_is_served(self, daemons: impl IntoIterator<Item = Daemon>) -> Toll {
        let ends = self.ends(daemons).await;
        assert_eq!(ends.rows, [("sent".to_owned(), i64::from(USERS))], "somebody was not sent to");
        assert_eq!(ends.got, i64::from(USERS) + ends.toll.doubles, "the books and WeChat do not agree");
        ends.toll
    }

    /// The same where some may have been given up: by end, how many rows.
    pub async fn ends(mut self, daemons: impl IntoIterator<Item = Daemon>) -> Ends {
        self.world.reconnect().await;
        self.world.all_ended(USERS.into()).await;
        for daemon in daemons {
            self.world.finish(daemon).await;
        }
        let ids: Vec<String> = KINDS
            .into_iter()
            .flat_map(Kind::events)
            .map(|event| event.0["event_id"].as_str().unwrap().to_owned())
            .collect();
        let unknowns = self.world.conserved(ids).await;
        let toll = Toll { unknowns, doubles: self.world.wechat.doubles().await };
        let rows: Vec<_> = self.world.ends().await.into_iter().collect();
        println!("{toll:?} {rows:?}");
        Ends { rows, got: self.world.wechat.got_by_all().await, toll }
    }
}

/// The account of a load.
pub struct Ends {
    pub rows: Vec<(String, i64)>,
    /// Messages that users got.
    pub got: i64,
    pub toll: Toll,
}

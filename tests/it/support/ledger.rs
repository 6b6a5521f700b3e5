//! What the books say.

use std::collections::{BTreeMap, HashMap};

use super::{World, eventually};

/// A ledger row, as far as stories look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub event_id: String,
    pub recipient: String,
    pub status: String,
    pub reason: Option<String>,
    pub attempts: i32,
    pub unknowns: i32,
    pub epoch: i32,
    pub errcode: Option<i64>,
}

impl Row {
    /// `status`, or `status:reason`.
    pub fn end(&self) -> String {
        self.reason.as_ref().map_or(self.status.clone(), |reason| format!("{}:{reason}", self.status))
    }
}

impl World {
    /// All rows, by event and recipient.
    pub async fn ledger(&self) -> Vec<Row> {
        let rows = self
            .db
            .query(
                "SELECT event_id, recipient, status, reason, attempts, unknowns, epoch, errcode
                   FROM t_wechat_delivery ORDER BY event_id, recipient",
                &[],
            )
            .await
            .unwrap();
        rows.iter()
            .map(|row| Row {
                event_id: row.get(0),
                recipient: row.get(1),
                status: row.get(2),
                reason: row.get(3),
                attempts: row.get(4),
                unknowns: row.get(5),
                epoch: row.get(6),
                errcode: row.get(7),
            })
            .collect()
    }

    /// How many rows have come to which end (`status` or `status:reason`).
    pub async fn ends(&self) -> BTreeMap<String, i64> {
        let rows = self
            .db
            .query("SELECT concat_ws(':', status, reason), count(*) FROM t_wechat_delivery GROUP BY 1", &[])
            .await
            .unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Waits until at least so many rows have come to this end.
    pub async fn ends_when(&self, end: &str, count: i64) {
        eventually(&format!("{count} rows to be {end}"), async || {
            (self.ends().await.get(end).copied().unwrap_or_default() >= count).then_some(())
        })
        .await;
    }

    /// Waits for the one row of an event to satisfy `wanted`, and hands it out.
    pub async fn row_when(&self, event_id: &str, what: &str, wanted: impl Fn(&Row) -> bool) -> Row {
        eventually(&format!("{event_id} to be {what}"), async || {
            self.ledger().await.into_iter().find(|row| row.event_id == event_id && wanted(row))
        })
        .await
    }

    /// Waits until the one row of an event is finished.
    pub async fn ended(&self, event_id: &str) -> Row {
        self.row_when(event_id, "finished", |row| matches!(row.status.as_str(), "sent" | "skipped" | "dead"))
            .await
    }

    /// Waits until this many rows exist and all are finished.
    pub async fn all_ended(&self, rows: i64) {
        eventually(&format!("{rows} rows to be finished"), async || {
            let count = self
                .db
                .query_one(
                    "SELECT count(*), count(*) FILTER (WHERE status IN ('sent', 'skipped', 'dead')) FROM t_wechat_delivery",
                    &[],
                )
                .await
                .ok()?;
            (count.get::<_, i64>(0) >= rows && count.get::<_, i64>(0) == count.get::<_, i64>(1)).then_some(())
        })
        .await;
    }

    /// Reasons of the archived dead letters, sorted.
    pub async fn dead_letters(&self) -> Vec<String> {
        let rows =
            self.db.query("SELECT reason FROM t_wechat_dead_letter ORDER BY reason, id", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Waits for this many dead letters in the archive.
    pub async fn dead_letters_when(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} dead letters in the archive"), async || {
            Some(self.dead_letters().await).filter(|dead_letters| dead_letters.len() >= count)
        })
        .await
    }

    /// Waits until every queue is empty, then checks promise 1: the conservation view is empty, and every event id has a
    /// row or a dead letter; and promise 2: no more doubles than unknowns. Answers the unknowns.
    pub async fn conserved(&self, event_ids: impl IntoIterator<Item = String>) -> i64 {
        self.queues_empty().await;
        eventually("the conservation view to be empty", async || {
            let gaps = self.db.query("SELECT 1 FROM v_wechat_conservation LIMIT 1", &[]).await.ok()?;
            gaps.is_empty().then_some(())
        })
        .await;
        let lost: Vec<String> = self
            .db
            .query(
                "SELECT e FROM unnest($1::text[]) e
                  WHERE NOT EXISTS (SELECT FROM t_wechat_delivery WHERE event_id = e)
                    AND NOT EXISTS (SELECT FROM t_wechat_dead_letter WHERE event_id = e)",
                &[&event_ids.into_iter().collect::<Vec<_>>()],
            )
            .await
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert!(lost.is_empty(), "published, but neither in the ledger nor in the archive: {lost:?}");
        let unknowns: i64 = self
            .db
            .query_one("SELECT coalesce(sum(unknowns), 0)::bigint FROM t_wechat_delivery", &[])
            .await
            .unwrap()
            .get(0);
        let doubles = self.wechat.doubles().await;
        assert!(
            doubles <= unknowns,
            "{doubles} messages went out twice, but only {unknowns} outcomes were unknown"
        );
        unknowns
    }

    /// So many rows, all sent, and to each recipient one message, or one more for each outcome that the row calls unknown.
    pub async fn each_was_sent_to_once_or_is_counted(&self, rows: u32) {
        let inboxes = self.wechat.ask("sent").await;
        let got: HashMap<&str, i64> = inboxes["users"]
            .as_array()
            .unwrap()
            .iter()
            .map(|user| (user["openid"].as_str().unwrap(), user["count"].as_i64().unwrap()))
            .collect();
        let ledger = self.ledger().await;
        assert_eq!(ledger.len(), rows as usize);
        for row in ledger {
            let got = got.get(row.recipient.as_str()).copied().unwrap_or_default();
            assert_eq!(row.end(), "sent", "{row:?}");
            assert!((1..=1 + i64::from(row.unknowns)).contains(&got), "got {got} messages: {row:?}");
        }
    }
}

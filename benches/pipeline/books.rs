//! One schema of the private PostgreSQL: its tables filled, its statements counted.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Serialize;
use tokio_postgres::{Client, NoTls};

use super::load::{self, Scale};

/// A schema with the daemon's tables.
pub struct Books {
    /// The URL that leads a daemon to this schema.
    pub url: String,
    client: Client,
}

/// How often one statement of the daemon's ran, and how long in all, by PostgreSQL's own account.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Statement {
    pub calls: i64,
    pub milliseconds: f64,
}

impl Books {
    /// An empty schema; the daemon's `migrate` makes the tables.
    pub async fn create(url: &str, schema: &str) -> Result<Self> {
        let url = format!("{url}?options=-csearch_path%3D{schema}%2Cpublic");
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        client.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA public", &[]).await?;
        client.execute(&format!("CREATE SCHEMA {schema}"), &[]).await?;
        Ok(Self { url, client })
    }

    /// The app, the users, and a rule for each thing that events are about.
    pub async fn seed(&self, scale: &Scale) -> Result<()> {
        self.execute(
            "INSERT INTO t_wechat_app (app_id, app_name, app_secret) VALUES ($1, 'bench', $2)",
            &[&load::APP, &load::SECRET],
        )
        .await?;
        self.seed_users(scale).await?;
        self.seed_rules(scale).await?;
        self.execute("ANALYZE", &[]).await
    }

    async fn seed_users(&self, scale: &Scale) -> Result<()> {
        const USERS: &str = "
            INSERT INTO t_wechat_user (app_id, openid, sys_user_id, subscribe_template)
            SELECT $1, 'o-' || i, 'u' || i, jsonb_build_object(
                       $2::text, jsonb_build_object('status', 'accept', 'remaining', NULL, 'updated_at', now()),
                       $3::text, jsonb_build_object('status', 'accept', 'remaining', NULL, 'updated_at', now()),
                       $4::text, jsonb_build_object('status', 'accept', 'remaining', NULL, 'updated_at', now()),
                       $5::text, jsonb_build_object('status', CASE WHEN i % 10 < $6::bigint THEN 'reject' ELSE 'accept' END),
                       $7::text, jsonb_build_object('status', 'accept', 'remaining', 1000000, 'updated_at', now()))
              FROM generate_series(0, $8::bigint - 1) AS i";
        let (decliners, people) = (i64::try_from(load::DECLINERS_IN_TEN)?, i64::try_from(scale.everybody)?);
        let (one, ten, all) = (load::ONE, load::TEN, load::ALL);
        self.execute(
            USERS,
            &[&load::APP, &one, &ten, &all, &load::DECLINED, &decliners, &load::COUNTED, &people],
        )
        .await
    }

    async fn seed_rules(&self, scale: &Scale) -> Result<()> {
        const ONE: &str = "
            INSERT INTO t_wechat_message_user (company_no, app_id, template_id, customer_id, sys_user_ids)
            SELECT $1, $2, $3, 'c' || i, ARRAY['u' || i] FROM generate_series(0, $4::bigint - 1) AS i";
        const TEN: &str = "
            INSERT INTO t_wechat_message_user (company_no, app_id, template_id, customer_id, sys_user_ids)
            SELECT $1, $2, $3, 'g' || i, ARRAY(SELECT 'u' || p FROM generate_series(i * $5::bigint, (i + 1) * $5::bigint - 1) AS p)
              FROM generate_series(0, $4::bigint / $5::bigint - 1) AS i";
        const ALL: &str = "
            INSERT INTO t_wechat_message_user (company_no, app_id, template_id, sys_user_ids)
            SELECT $1, $2, $3, ARRAY(SELECT 'u' || i FROM generate_series(0, $4::bigint - 1) AS i)";
        let (people, everybody) = (i64::try_from(scale.people)?, i64::try_from(scale.everybody)?);
        let ten = i64::try_from(load::PEOPLE_IN_TEN)?;
        self.execute(ONE, &[&load::COMPANY, &load::APP, &load::ONE, &people]).await?;
        self.execute(TEN, &[&load::COMPANY, &load::APP, &load::TEN, &people, &ten]).await?;
        self.execute(ALL, &[&load::COMPANY, &load::APP, &load::ALL, &everybody]).await
    }

    /// Years of history: a ledger of millions of rows, and many more users and rules.
    pub async fn age(&self, scale: &Scale) -> Result<()> {
        const USERS: &str = "
            INSERT INTO t_wechat_user (app_id, openid, sys_user_id, subscribe_template)
            SELECT $1, 'x-' || i, 'x' || i, jsonb_build_object($2::text, jsonb_build_object('status', 'accept'))
              FROM generate_series(1, $3::bigint) AS i";
        const RULES: &str = "
            INSERT INTO t_wechat_message_user (company_no, app_id, template_id, customer_id, sys_user_ids)
            SELECT $1, $2, $3, 'x' || i, ARRAY['x' || i] FROM generate_series(1, $4::bigint) AS i";
        const LEDGER: &str = "
            INSERT INTO t_wechat_delivery (company_no, app_id, template_id, event_id, recipient, openid, sys_user_id,
                                           status, errcode, errmsg, msgid, attempts, content_hash, token_generation,
                                           claimed_at, created_at, settled_at)
            SELECT $1, $2, $3, left(md5(i::text), 24), 'o-' || i % 100000, 'o-' || i % 100000, 'u' || i % 100000,
                   'sent', 0, 'ok', 1000000000000000000 + i, 1, decode(md5(i::text), 'hex'), 1,
                   now() - $4 * interval '1 s', now() - $4 * interval '1 s', now() - $4 * interval '1 s'
              FROM generate_series(1, $5::bigint) AS i";
        let (users, rules) = (i64::try_from(scale.more_users)?, i64::try_from(scale.more_rules)?);
        // Old enough for `retention.deliveries` to remove them.
        let (month_s, rows) = (30.0 * 86_400.0, i64::try_from(scale.ledger_rows)?);
        self.execute(USERS, &[&load::APP, &load::ONE, &users]).await?;
        self.execute(RULES, &[&load::COMPANY, &load::APP, &load::ONE, &rules]).await?;
        self.execute(LEDGER, &[&load::COMPANY, &load::APP, &load::ONE, &month_s, &rows]).await?;
        self.execute("VACUUM ANALYZE", &[]).await?;
        self.execute("CHECKPOINT", &[]).await
    }

    /// An empty ledger again.
    pub async fn forget(&self) -> Result<()> {
        self.execute("TRUNCATE t_wechat_delivery", &[]).await
    }

    /// Rows of the ledger that came to no end. None, when a run is over.
    pub async fn unfinished(&self) -> Result<i64> {
        let row = self.client.query_one("SELECT count(*) FROM v_wechat_conservation", &[]).await?;
        Ok(row.get(0))
    }

    /// What a row of the ledger takes on disk, its indexes with it.
    pub async fn bytes_per_row(&self) -> Result<f64> {
        const BYTES: &str = "
            SELECT pg_total_relation_size('t_wechat_delivery')::float8 / greatest(count(*), 1)::float8
              FROM t_wechat_delivery";
        Ok(self.client.query_one(BYTES, &[]).await?.get(0))
    }

    /// Begins to count statements.
    pub async fn count_anew(&self) -> Result<()> {
        self.client.query("SELECT public.pg_stat_statements_reset()", &[]).await?;
        Ok(())
    }

    /// The daemon's statements since then, by the name in their leading comment; what has none is `other`.
    pub async fn statements(&self) -> Result<BTreeMap<String, Statement>> {
        const STATEMENTS: &str = "
            SELECT coalesce(substring(query FROM '^-- ([^\\n]*)'), 'other') AS name,
                   sum(calls)::bigint AS calls, sum(total_exec_time)::float8 AS milliseconds
              FROM public.pg_stat_statements
             WHERE query NOT LIKE '%pg_stat_statements%' GROUP BY 1";
        let rows = self.client.query(STATEMENTS, &[]).await?;
        let statement = |row: &tokio_postgres::Row| Statement {
            calls: row.get("calls"),
            milliseconds: row.get("milliseconds"),
        };
        Ok(rows.iter().map(|row| (row.get("name"), statement(row))).collect())
    }

    async fn execute(&self, sql: &str, values: &[&(dyn tokio_postgres::types::ToSql + Sync)]) -> Result<()> {
        let first = sql.trim().lines().next().unwrap_or_default().to_owned();
        self.client.execute(sql, values).await.map(|_| ()).with_context(|| format!("cannot {first}"))
    }
}

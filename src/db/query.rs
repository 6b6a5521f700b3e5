//! Statements with named placeholders.
//!
//! A statement is a constant whose leading comment is its name in errors and metrics, and `:name` marks a value. [`sql!`] puts
//! statement and values together, by name:
//!
//! ```ignore
//! const SQL: &str = "-- registry::find_users
//!     SELECT … FROM t_wechat_user WHERE (:app_id::text IS NULL OR app_id = :app_id) AND openid = :user";
//! let rows = sql!(SQL, app_id, user = user.as_str()).rows(&client).await?;
//! ```
//!
//! Many rows go to PostgreSQL as one array per column. [`columns!`] declares the columns. The batch's placeholder is a
//! table of that name in the statement, with one column more, `position`, counted from one:
//!
//! ```ignore
//! columns! {
//!     struct Rows<'a>(request: &'a Request) {
//!         openid: &'a str = request.openid.as_str(),
//!         reason: Option<&'a str> = request.reason,
//!     }
//! }
//! const SQL: &str = "-- record
//!     INSERT INTO … SELECT i.openid, i.reason, :trace_id FROM :i";
//! sql!(SQL, Rows::of(batch) as i, trace_id).count(&client).await?;
//! ```
//!
//! So a new column is a line in `columns!` and its use in the statement. Names are replaced by numbers while the program is
//! compiled, and what does not fit together does not compile: a placeholder without a value, a value without a placeholder.

mod columns;
mod placeholders;

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

pub(super) use columns::{columns, position};
pub(super) use placeholders::{Column, Names, join_parts, parts_length, text_of};

use super::Error;

/// A statement and its values; see the [module](self).
macro_rules! sql {
    ($sql:expr, $columns:ident::of($rows:expr) as $batch:ident $(, $name:ident $(= $value:expr)?)* $(,)?) => {
        $crate::db::query::Query::new(
            $crate::db::query::sql!(@numbered $sql, Some((stringify!($batch), $columns::COLUMNS)), [$($name)*]),
            $columns::of($rows).values(),
            &[$(&$crate::db::query::sql!(@value $name $(= $value)?)),*],
        )
    };
    ($sql:expr $(, $name:ident $(= $value:expr)?)* $(,)?) => {
        $crate::db::query::Query::new(
            $crate::db::query::sql!(@numbered $sql, None, [$($name)*]),
            Vec::new(),
            &[$(&$crate::db::query::sql!(@value $name $(= $value)?)),*],
        )
    };
    (@value $name:ident) => { $name };
    (@value $name:ident = $value:expr) => { $value };
    (@numbered $sql:expr, $batch:expr, [$($name:ident)*]) => {
        const {
            const NAMES: $crate::db::query::Names =
                $crate::db::query::Names { batch: $batch, values: &[$(stringify!($name)),*] };
            const LENGTH: usize = NAMES.numbered_length($sql);
            const NUMBERED: [u8; LENGTH] = NAMES.numbered($sql);
            $crate::db::query::text_of(&NUMBERED)
        }
    };
}

/// A statement of several constant parts, of which some are shared with other statements.
macro_rules! joined {
    ($($part:expr),+ $(,)?) => {
        const {
            const LENGTH: usize = $crate::db::query::parts_length(&[$($part),+]);
            const JOINED: [u8; LENGTH] = $crate::db::query::join_parts(&[$($part),+]);
            $crate::db::query::text_of(&JOINED)
        }
    };
}

pub(super) use {joined, sql};

/// What [`sql!`] makes: to be run in one of four ways.
#[must_use]
pub(super) struct Query<'a> {
    text: &'static str,
    values: Vec<&'a (dyn ToSql + Sync)>,
}

impl<'a> Query<'a> {
    /// The values in the order of their numbers: those of the batch, then the others.
    pub(super) fn new(
        text: &'static str,
        batch: Vec<&'a (dyn ToSql + Sync)>,
        others: &[&'a (dyn ToSql + Sync)],
    ) -> Self {
        let mut values = batch;
        values.extend(others);
        Self { text, values }
    }

    /// The statement's rows.
    pub(super) async fn rows(self, client: &impl GenericClient) -> Result<Vec<Row>, Error> {
        let failed = |error| failed(self.text, &error);
        let statement = client.prepare_cached(self.text).await.map_err(failed)?;
        client.query(&statement, &self.values).await.map_err(failed)
    }

    /// The one row of a statement that always answers one: an aggregate, a function, an `INSERT … RETURNING`. (A trigger of
    /// the company's own can swallow what is inserted.)
    pub(super) async fn one(self, client: &impl GenericClient) -> Result<Row, Error> {
        let name = name_of(self.text);
        self.optional(client).await?.ok_or_else(|| Error::Unreadable {
            table: "PostgreSQL's answer",
            what: format!("{name} returned no row"),
        })
    }

    /// The row of a statement that answers one at most.
    pub(super) async fn optional(self, client: &impl GenericClient) -> Result<Option<Row>, Error> {
        Ok(self.rows(client).await?.into_iter().next())
    }

    /// How many rows the statement touched.
    pub(super) async fn count(self, client: &impl GenericClient) -> Result<u64, Error> {
        let failed = |error| failed(self.text, &error);
        let statement = client.prepare_cached(self.text).await.map_err(failed)?;
        client.execute(&statement, &self.values).await.map_err(failed)
    }
}

/// The error, with the statement's name.
pub(super) fn failed(sql: &'static str, error: &tokio_postgres::Error) -> Error {
    Error::of_query(name_of(sql), error)
}

fn name_of(sql: &'static str) -> &'static str {
    let comment = sql.lines().next().and_then(|line| line.strip_prefix("-- "));
    comment.unwrap_or("a statement without a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leading_comment_is_the_name() {
        assert_eq!(name_of("-- registry::add_app\nINSERT"), "registry::add_app");
        assert_eq!(name_of("SELECT 1"), "a statement without a name");
    }
}

//! Runs one statement that is named by its leading comment: `-- registry::add_app`.

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::Error;

/// The statement's rows.
pub(super) async fn rows(
    client: &impl GenericClient,
    sql: &'static str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Error> {
    let statement = client.prepare_cached(sql).await.map_err(|error| failed(sql, &error))?;
    client.query(&statement, values).await.map_err(|error| failed(sql, &error))
}

/// The one row of a statement that always answers one: an aggregate, a function, an `INSERT … RETURNING`. (A trigger of the
/// company's own can swallow what is inserted.)
pub(super) async fn one(
    client: &impl GenericClient,
    sql: &'static str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Row, Error> {
    let row = rows(client, sql, values).await?.into_iter().next();
    row.ok_or_else(|| Error::Unreadable {
        table: "PostgreSQL's answer",
        what: format!("{} returned no row", name_of(sql)),
    })
}

/// How many rows the statement touched.
pub(super) async fn count(
    client: &impl GenericClient,
    sql: &'static str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<u64, Error> {
    let statement = client.prepare_cached(sql).await.map_err(|error| failed(sql, &error))?;
    client.execute(&statement, values).await.map_err(|error| failed(sql, &error))
}

/// The error under the statement's own name.
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

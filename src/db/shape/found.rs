//! The tables that the database has under our names.

use std::collections::{BTreeMap, BTreeSet};

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;

use super::expected::{self, Unique};
use crate::db::Error;
use crate::db::query::sql;
use crate::db::row::Read;

/// The relations, by name.
pub(super) type Tables = BTreeMap<String, Table>;

/// A relation under a name of ours.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Something that rows can be inserted into; no view.
    pub(super) is_table: bool,
    /// In their order.
    pub(super) columns: Vec<Column>,
    /// The columns of each index that makes them unique.
    pub(super) unique: Vec<BTreeSet<String>>,
}

/// A column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    /// As PostgreSQL writes it, with its length.
    pub(super) data_type: String,
    pub(super) is_not_null: bool,
    /// The default's text; empty for an identity and what is generated.
    pub(super) default: Option<String>,
    /// Part of the primary key.
    pub(super) is_key: bool,
}

impl Table {
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// Reads the catalog.
pub(super) async fn read(client: &impl GenericClient) -> Result<Tables, Error> {
    let names: Vec<&str> = expected::tables().map(|table| table.name).collect();
    let mut tables = relations(client, &names).await?;
    for row in columns(client, &names).await? {
        if let Some(table) = tables.get_mut(row.read::<&str>("relation")?) {
            table.columns.push(column(&row)?);
        }
    }
    for row in unique_indexes(client, &names).await? {
        if let Some(table) = tables.get_mut(row.read::<&str>("relation")?) {
            table.unique.push(row.read::<Vec<String>>("columns")?.into_iter().collect());
        }
    }
    Ok(tables)
}

async fn relations(client: &impl GenericClient, names: &[&str]) -> Result<Tables, Error> {
    const SQL: &str = "-- shape::relations
        SELECT n.name AS relation, c.relkind IN ('r', 'p') AS is_table
          FROM unnest(:names::text[]) n (name) JOIN pg_class c ON c.oid = to_regclass(n.name)";
    let rows = sql!(SQL, names).rows(client).await?;
    let table = |row: &Row| -> Result<_, Error> {
        Ok((row.read("relation")?, Table { is_table: row.read("is_table")?, ..Table::default() }))
    };
    rows.iter().map(table).collect()
}

/// A domain counts as the type below it.
async fn columns(client: &impl GenericClient, names: &[&str]) -> Result<Vec<Row>, Error> {
    const SQL: &str = "-- shape::columns
        SELECT n.name AS relation, a.attname::text AS name,
               CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod)
                              ELSE format_type(a.atttypid, a.atttypmod) END AS data_type,
               a.attnotnull AS is_not_null,
               CASE WHEN a.attidentity <> '' OR a.attgenerated <> '' THEN ''
                    ELSE pg_get_expr(d.adbin, d.adrelid) END AS default_text,
               coalesce(a.attnum = ANY (i.indkey), false) AS is_key
          FROM unnest(:names::text[]) n (name)
          JOIN pg_attribute a ON a.attrelid = to_regclass(n.name) AND a.attnum > 0 AND NOT a.attisdropped
          JOIN pg_type t ON t.oid = a.atttypid
          LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
          LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
         ORDER BY n.name, a.attnum";
    sql!(SQL, names).rows(client).await
}

fn column(row: &Row) -> Result<Column, Error> {
    Ok(Column {
        name: row.read("name")?,
        data_type: row.read("data_type")?,
        is_not_null: row.read("is_not_null")?,
        default: row.read("default_text")?,
        is_key: row.read("is_key")?,
    })
}

async fn unique_indexes(client: &impl GenericClient, names: &[&str]) -> Result<Vec<Row>, Error> {
    const SQL: &str = "-- shape::unique_indexes
        SELECT n.name AS relation,
               ARRAY(SELECT a.attname::text FROM unnest(i.indkey[0:i.indnkeyatts - 1]) k (attnum)
                       JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum) AS columns
          FROM unnest(:names::text[]) n (name)
          JOIN pg_index i ON i.indrelid = to_regclass(n.name) AND i.indisunique AND i.indisvalid
                         AND i.indpred IS NULL AND i.indexprs IS NULL";
    sql!(SQL, names).rows(client).await
}

/// How many groups of rows share the columns that must be unique; a thousand at most.
pub(super) async fn duplicates(
    client: &impl GenericClient,
    table: &str,
    unique: &Unique,
) -> Result<i64, Error> {
    // Both names are constants of ours.
    let columns = unique.columns.join(", ");
    let not_null: Vec<String> = unique.columns.iter().map(|column| format!("{column} IS NOT NULL")).collect();
    let sql = format!(
        "-- shape::duplicates
        SELECT count(*) FROM (SELECT FROM {table} WHERE {} GROUP BY {columns} HAVING count(*) > 1 LIMIT 1000) d",
        not_null.join(" AND ")
    );
    let row = client.query_one(&sql, &[]).await;
    row.map_err(|error| Error::of_query("shape::duplicates", &error))?.read(0)
}

//! Compares the tables that are there with those that we need. Pure.

use super::convert;
use super::difference::Difference;
use super::expected::{Column, Kind, Need, Table, Unique};
use super::found;

/// What is wrong with one table, of which migration `applied` was the last.
pub(super) fn table(expected: &Table, found: Option<&found::Table>, applied: i32) -> Vec<Difference> {
    let is_due = expected.since <= applied;
    match found {
        None if is_due => vec![missing_table(expected)],
        None => Vec::new(),
        Some(_) if !is_due && !expected.is_shared => vec![foreign_table(expected)],
        Some(found) if !found.is_table => vec![no_table(expected)],
        Some(found) => {
            let mut differences: Vec<Difference> =
                expected.columns.iter().filter_map(|one| column(expected, one, found, applied)).collect();
            if expected.is_shared {
                differences.extend(own_columns(expected, found));
            }
            differences
        }
    }
}

fn missing_table(expected: &Table) -> Difference {
    Difference::of(expected.name, "", "nothing", "the table, which a migration created").by(vec![format!(
        "-- bring {} back: from a backup, or from the name it was given since",
        expected.name
    )])
}

fn foreign_table(expected: &Table) -> Difference {
    let name = expected.name;
    Difference::of(name, "", "something that wechat-notifier did not create", "this name free")
        .by(vec![format!("ALTER TABLE {name} RENAME TO {name}_former;")])
}

fn no_table(expected: &Table) -> Difference {
    let name = expected.name;
    Difference::of(name, "", "no table", "a table")
        .by(vec![format!("-- {name} must be a table: a view holds no rows of its own")])
}

fn column(table: &Table, expected: &Column, found: &found::Table, applied: i32) -> Option<Difference> {
    let is_due = expected.added_by.is_none_or(|migration| migration <= applied);
    let difference = |found: &str, sql: Vec<String>| {
        Difference::of(table.name, expected.name, found, &wanted(expected)).by(sql)
    };
    let Some(found) = found.column(expected.name) else {
        return is_due.then(|| difference("no such column", convert::add(table.name, expected)));
    };
    let fits = fits(expected.kind, &found.data_type);
    let sql = match expected.need {
        Need::Identity if table.is_shared => convert::meet_need(table.name, expected, found),
        _ if !fits => convert::retype(table.name, expected, found),
        _ if table.is_shared => convert::meet_need(table.name, expected, found),
        _ => Vec::new(),
    };
    (!sql.is_empty()).then(|| difference(&described(found), sql))
}

/// What our inserts leave out of the company's own columns.
fn own_columns<'a>(table: &'a Table, found: &'a found::Table) -> impl Iterator<Item = Difference> + 'a {
    let is_ours = |name: &str| table.columns.iter().any(|column| column.name == name);
    found
        .columns
        .iter()
        .filter(move |column| !is_ours(&column.name) && column.is_not_null && column.default.is_none())
        .map(|column| {
            let wanted = "nullable or with a default: we insert rows without it";
            let sql = convert::fill(table.name, &convert::quoted(&column.name), column);
            Difference::of(table.name, &column.name, &described(column), wanted).by(sql)
        })
}

/// Must be unique and is not, though the rows can be seen not to be (`duplicates`), or no migration will make it so.
pub(super) fn unique(
    table: &Table,
    unique: &Unique,
    found: &found::Table,
    duplicates: i64,
    applied: i32,
) -> Option<Difference> {
    let columns = unique.columns.join(", ");
    let mut sql = Vec::new();
    if duplicates > 0 {
        sql.extend(convert::deduplicate(table.name, unique.columns, found.column("update_time").is_some()));
    }
    if unique.made_by.is_none_or(|migration| migration <= applied) {
        sql.push(format!("CREATE UNIQUE INDEX ON {} ({columns});", table.name));
    }
    let found = match duplicates {
        0 => "no unique index".to_owned(),
        groups => format!("no unique index; duplicates in {groups} groups of rows"),
    };
    (!sql.is_empty()).then(|| Difference::of(table.name, &columns, &found, "unique").by(sql))
}

/// Is there no index yet that makes the columns unique, and are they there, so that rows can be compared?
pub(super) fn lacks(unique: &Unique, found: &found::Table) -> bool {
    let is_there = |index: &std::collections::BTreeSet<String>| {
        index.len() == unique.columns.len() && unique.columns.iter().all(|column| index.contains(*column))
    };
    found.is_table
        && unique.columns.iter().all(|column| found.column(column).is_some())
        && !found.unique.iter().any(is_there)
}

fn fits(kind: Kind, data_type: &str) -> bool {
    match kind {
        Kind::Text(at_least) => {
            data_type == "text"
                || (data_type.starts_with("character varying")
                    && convert::length(data_type).is_none_or(|length| length >= at_least))
        }
        Kind::Flag => matches!(data_type, "smallint" | "integer" | "bigint"),
        Kind::Timestamptz => data_type.starts_with("timestamp") && data_type.ends_with("with time zone"),
        Kind::Numeric => data_type.starts_with("numeric"),
        _ => data_type == kind.as_sql(),
    }
}

fn wanted(column: &Column) -> String {
    let kind = match column.kind {
        Kind::Text(at_least) if at_least > 0 => format!("text or varchar({at_least}) at least"),
        Kind::Text(_) => "text or varchar".to_owned(),
        Kind::Flag => "smallint, 1 = active".to_owned(),
        kind => kind.as_sql().to_owned(),
    };
    match column.need {
        Need::Given => kind,
        Need::Nullable => format!("{kind}, nullable"),
        Need::Omitted => format!("{kind}, nullable or with a default"),
        Need::Default(default) => format!("{kind}, not null, default {default}"),
        Need::Identity => format!("{kind}, not null, numbered by the database"),
    }
}

fn described(column: &found::Column) -> String {
    let null = if column.is_not_null { "not null" } else { "nullable" };
    let default = match column.default.as_deref() {
        None => "no default".to_owned(),
        Some("") => "made by the database".to_owned(),
        Some(default) => format!("default {default}"),
    };
    format!("{}, {null}, {default}", column.data_type)
}

//! Reads the columns of a row. A column of an unexpected type is reported, and does not panic.

use std::fmt::Display;

use tokio_postgres::Row;
use tokio_postgres::row::RowIndex;
use tokio_postgres::types::FromSql;

use super::Error;

/// Fallible reads, instead of [`Row::get`], which panics.
pub(super) trait Read {
    /// The value of a column, by its name or its position. An error names the column and both types, never the value.
    fn read<'a, T: FromSql<'a>>(&'a self, column: impl RowIndex + Display + Copy) -> Result<T, Error>;
}

impl Read for Row {
    fn read<'a, T: FromSql<'a>>(&'a self, column: impl RowIndex + Display + Copy) -> Result<T, Error> {
        self.try_get(column).map_err(|error| unreadable(&column, &error))
    }
}

fn unreadable(column: &dyn Display, error: &tokio_postgres::Error) -> Error {
    // The client counts columns from zero; the cause behind that says what is wrong.
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    Error::Unreadable { table: "PostgreSQL's answer", what: format!("column {column}: {cause}") }
}

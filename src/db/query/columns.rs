//! A batch of rows on its way to PostgreSQL: an array per column.

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::placeholders::Column;
use crate::db::Error;
use crate::db::row::Read;

/// Declares a batch: each column once, with its type and where its value comes from. `of` makes it from the rows.
///
/// ```ignore
/// columns! {
///     /// Rows to write.
///     struct Rows<'a>(request: &'a Request) {
///         claim: Uuid = request.claim,
///         event_id: &'a str = request.event.event_id.as_str(),
///     }
/// }
/// ```
///
/// The array's type in SQL follows from the type here ([`SqlType`]). See [`sql!`](super::sql) for its use.
macro_rules! columns {
    (
        $(#[$doc:meta])*
        struct $columns:ident<$life:lifetime>($row:ident: $type_of_row:ty) {
            $($(#[$column_doc:meta])* $name:ident: $type:ty = $value:expr,)+
        }
    ) => {
        $(#[$doc])*
        struct $columns<$life> {
            $($(#[$column_doc])* $name: Vec<$type>,)+
            /// Uses the lifetime where no column borrows.
            _rows: std::marker::PhantomData<fn() -> $type_of_row>,
        }

        impl<$life> $columns<$life> {
            const COLUMNS: &'static [$crate::db::query::Column] =
                &[$($crate::db::query::Column::of::<$type>(stringify!($name)),)+];

            fn of(rows: impl IntoIterator<Item = $type_of_row, IntoIter: Clone>) -> Self {
                let rows = rows.into_iter();
                Self {
                    $($name: rows.clone().map(|$row| $value).collect(),)+
                    _rows: std::marker::PhantomData,
                }
            }

            fn values(&self) -> Vec<&(dyn tokio_postgres::types::ToSql + Sync)> {
                vec![$(&self.$name,)+]
            }
        }
    };
}

pub(in crate::db) use columns;

/// A type that a column of a batch can have.
pub(in crate::db) trait SqlType {
    /// The type of one value, in SQL.
    const NAME: &'static str;
}

/// NULL or a value.
impl<T: SqlType> SqlType for Option<T> {
    const NAME: &'static str = T::NAME;
}

macro_rules! sql_types {
    ($($type:ty = $name:literal,)+) => {
        $(impl SqlType for $type {
            const NAME: &'static str = $name;
        })+
    };
}

sql_types! {
    &str = "text",
    String = "text",
    i32 = "int",
    i64 = "bigint",
    bool = "bool",
    Uuid = "uuid",
    Timestamp = "timestamptz",
    &[u8] = "bytea",
    &serde_json::Value = "jsonb",
}

impl Column {
    pub(in crate::db) const fn of<T: SqlType>(name: &'static str) -> Self {
        Self { name, sql_type: T::NAME }
    }
}

/// The place in the batch of the row that this one answers: its column `position`, counted from zero.
pub(in crate::db) fn position(row: &Row) -> Result<usize, Error> {
    Ok(usize::try_from(row.read::<i64>("position")? - 1).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    columns! {
        struct Pairs<'a>(pair: &'a (i64, Option<String>)) {
            id: i64 = pair.0,
            reason: Option<&'a str> = pair.1.as_deref(),
        }
    }

    #[test]
    fn a_batch_is_an_array_per_column_in_the_order_of_the_rows() {
        let rows = [(7, None), (8, Some("rejected".to_owned()))];
        let pairs = Pairs::of(&rows);
        assert_eq!(
            (pairs.id.as_slice(), pairs.reason.as_slice()),
            (&[7, 8][..], &[None, Some("rejected")][..])
        );
        assert_eq!(pairs.values().len(), Pairs::COLUMNS.len());
    }

    #[test]
    fn the_type_in_sql_follows_from_the_type_in_rust() {
        let columns = Pairs::COLUMNS.iter().map(|column| (column.name, column.sql_type));
        assert!(columns.eq([("id", "bigint"), ("reason", "text")]));
    }
}

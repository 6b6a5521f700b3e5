//! One difference between a table and the shape that our statements rely on.

use std::fmt;

/// Something about a table that our statements cannot work with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub table: String,
    /// Empty: the table itself. Several, where together they must be unique.
    pub column: String,
    pub found: String,
    pub expected: String,
    /// Statements that convert it, in their order.
    pub sql: Vec<String>,
}

impl Difference {
    pub(super) fn of(table: &str, column: &str, found: &str, expected: &str) -> Self {
        let [table, column, found, expected] = [table, column, found, expected].map(str::to_owned);
        Self { table, column, found, expected, sql: Vec::new() }
    }

    pub(super) fn by(self, sql: Vec<String>) -> Self {
        Self { sql, ..self }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let point = if self.column.is_empty() { "" } else { "." };
        write!(f, "{}{point}{}: found {}; expected {}", self.table, self.column, self.found, self.expected)
    }
}

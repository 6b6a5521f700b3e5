//! What can go wrong with the database, named by what it means for the caller.

use tokio_postgres::error::SqlState;

/// A failed query. The text never holds bound values: PostgreSQL's detail line, which quotes them, is left out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing reached the database, or its answer did not reach us: try again later.
    #[error("PostgreSQL is away: {0}")]
    Away(String),
    /// The database refused this statement. The same statement fails again.
    #[error("PostgreSQL refused {query}: {code} {message}")]
    Refused { query: &'static str, code: String, message: String },
    /// A row holds what this version cannot read.
    #[error("{table} holds an unreadable row: {what}")]
    Unreadable { table: &'static str, what: String },
}

impl Error {
    /// Is it worth trying again?
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }

    /// Sorts a client error: conditions that pass by themselves are `Away`, the rest is `Refused`.
    pub(crate) fn of_query(query: &'static str, error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            None => Self::Away(with_causes(error)),
            Some(db) if passes_by_itself(db.code()) => {
                Self::Away(format!("{}: {}", db.code().code(), db.message()))
            }
            Some(db) => {
                Self::Refused { query, code: db.code().code().to_owned(), message: db.message().to_owned() }
            }
        }
    }
}

impl From<deadpool_postgres::PoolError> for Error {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::Away(with_causes(&error))
    }
}

/// The whole chain in one line: "error connecting to server" alone tells an operator nothing.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| {
        let cause = cause.to_string();
        // Wrappers like to repeat what they wrap.
        if line.contains(&cause) { line } else { format!("{line}: {cause}") }
    })
}

/// Restart, failover, overload, a deadlock's victim: the statement was fine.
fn passes_by_itself(code: &SqlState) -> bool {
    let class = &code.code()[..2];
    matches!(class, "08" | "40" | "53" | "57" | "58") || *code == SqlState::READ_ONLY_SQL_TRANSACTION
}

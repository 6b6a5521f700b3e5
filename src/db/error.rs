//! What can go wrong with the database, named by who can do something about it.

use super::sqlstate::{Fault, Remedy, fault_of};

/// A failed statement. The text never contains bound values: PostgreSQL's detail line, which quotes them, is left out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Nothing reached the database, or its answer did not reach us: try again later.
    #[error("cannot reach PostgreSQL: {0}")]
    Away(String),
    /// Another transaction came in between; the same statement is fine a moment later.
    #[error("PostgreSQL asks to retry: {0}")]
    Again(&'static str),
    /// The statement fails for every message until the operator has fixed something. Try again later.
    #[error("PostgreSQL refused `{query}`: {code} {message}; {}", .remedy.advice())]
    Installation { query: &'static str, code: String, message: String, remedy: Remedy },
    /// A value in the statement is not acceptable. The same statement fails again.
    #[error("PostgreSQL refused a value in `{query}`: {code} {message}")]
    Refused { query: &'static str, code: String, message: String },
    /// A column is missing, or has a value that this version cannot read: also a fault of the installation.
    #[error("{table} holds an unreadable row: {what}")]
    Unreadable { table: &'static str, what: String },
}

impl Error {
    /// Is PostgreSQL away for this statement, by itself or through a fault of the installation? Then nothing is charged to
    /// the message: wait and try again.
    pub fn is_away(&self) -> bool {
        !self.is_rows_own()
    }

    /// Is it the fault of a value in the statement?
    pub fn is_rows_own(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// Does the operator have to fix the installation?
    pub fn needs_operator(&self) -> bool {
        matches!(self, Self::Installation { .. } | Self::Unreadable { .. })
    }

    /// Does the start have to fail, because only a change of rights or tables can help?
    pub fn ends_the_start(&self) -> bool {
        let remedy = match self {
            Self::Installation { remedy, .. } => remedy,
            other => return matches!(other, Self::Unreadable { .. } | Self::Refused { .. }),
        };
        matches!(remedy, Remedy::Grant | Remedy::Migrate | Remedy::Trigger)
    }

    /// Did the statement exceed its timeout? A smaller batch may be quick enough.
    pub fn is_slow(&self) -> bool {
        matches!(self, Self::Installation { remedy: Remedy::Slow, .. })
    }

    /// Was the statement prepared for tables that have changed since, or forgotten by the server? Preparing it again helps.
    pub(super) fn is_stale_statement(&self) -> bool {
        matches!(self, Self::Installation { code, .. } if code.starts_with("0A") || code.starts_with("26"))
    }

    /// Statement and SQLSTATE, as labels of a metric: both come from short lists. No SQLSTATE: `none`.
    pub fn labels(&self) -> (&'static str, &str) {
        match self {
            Self::Away(_) | Self::Again(_) => ("any", "none"),
            Self::Installation { query, code, .. } | Self::Refused { query, code, .. } => (query, code),
            Self::Unreadable { table, .. } => (table, "none"),
        }
    }

    /// Sorts a client error by its SQLSTATE; without one nothing was refused, and PostgreSQL is away.
    pub(crate) fn of_query(query: &'static str, error: &tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else { return Self::Away(with_causes(error)) };
        let (code, message) = (db.code().code().to_owned(), db.message().to_owned());
        match fault_of(&code) {
            Fault::Away => Self::Away(format!("{code}: {message}")),
            Fault::Again => Self::Again("serialization failure or deadlock"),
            Fault::Installation(remedy) => Self::Installation { query, code, message, remedy },
            Fault::Row => Self::Refused { query, code, message },
        }
    }
}

impl From<deadpool_postgres::PoolError> for Error {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        // A login that PostgreSQL refuses, or a server without a free connection, is more than "away".
        if let deadpool_postgres::PoolError::Backend(refused) = &error
            && refused.as_db_error().is_some()
        {
            return Self::of_query("connect", refused);
        }
        Self::Away(with_causes(&error))
    }
}

/// The whole chain in one line: "error connecting to server" alone does not help an operator.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| {
        let cause = cause.to_string();
        // Wrappers like to repeat what they wrap.
        if line.contains(&cause) { line } else { format!("{line}: {cause}") }
    })
}

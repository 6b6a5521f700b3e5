//! Whose fault it is when PostgreSQL refuses a statement, by SQLSTATE: one table, longest match first.
//!
//! The codes are PostgreSQL's own (documentation, appendix A). A fault of the installation must never be charged
//! to a message, so everything that the table does not know counts as the installation's.

/// Whose fault a refused statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nobody's: the connection ended, or the server starts or stops. The same statement works once it is back.
    Away,
    /// Nobody's: another transaction came in between. The same statement works at once.
    Again,
    /// The installation's. The statement fails for every message until the operator has done what the remedy says.
    Installation(Remedy),
    /// A value in the statement. It fails for this row only, and fails again.
    Row,
}

/// What the operator has to fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    Grant,
    Login,
    Migrate,
    Disk,
    Memory,
    Connections,
    Standby,
    Lock,
    Slow,
    Pooler,
    Trigger,
    Server,
}

impl Remedy {
    /// One sentence that says what to do.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Grant => "run deploy/sql/grants.sql as the owner of the tables",
            Self::Login => "check user, password and pg_hba.conf for the role in database.url",
            Self::Migrate => {
                "the tables do not have the shape that this release needs: run `wechat-notifier migrate` and undo manual changes"
            }
            Self::Disk => "PostgreSQL cannot write: free disk space on its server",
            Self::Memory => "PostgreSQL is out of memory: look at its server",
            Self::Connections => {
                "PostgreSQL has no connection left: raise max_connections or lower database.pool_size"
            }
            Self::Standby => {
                "database.url points to a read-only server: point it to the primary, or unset default_transaction_read_only"
            }
            Self::Lock => {
                "another session holds a lock on our tables: find it in pg_stat_activity and pg_locks and end it"
            }
            Self::Slow => {
                "a statement exceeded its timeout: look for locks, a missing ANALYZE, or an overloaded server"
            }
            Self::Pooler => {
                "connect to PostgreSQL directly, or through a pooler in session mode: prepared statements are needed"
            }
            Self::Trigger => "a trigger on one of our tables raises an error: fix or drop it",
            Self::Server => "look into PostgreSQL's own log",
        }
    }
}

use Fault::{Again, Away, Installation, Row};

/// A prefix of SQLSTATEs and whose fault they are. A longer prefix wins over a shorter one.
const TABLE: &[(&str, Fault)] = &[
    // Connection exceptions, and servers that start or stop.
    ("08", Away),
    ("57P", Away),
    ("25P03", Away), // idle in transaction for too long: the session is ended, the next one is fine
    // Serialization failure, deadlock: another transaction came in between.
    ("40", Again),
    ("40002", Row), // a constraint that is checked at commit
    // Values.
    ("21", Row), // a key twice in one batch
    ("22", Row),
    ("23", Row),
    ("23502", Installation(Remedy::Migrate)), // we never leave a column of ours empty: somebody added one
    ("54", Row),                              // too large for an index or a tuple
    ("54001", Installation(Remedy::Server)),  // max_stack_depth
    ("54023", Installation(Remedy::Server)),  // too many arguments
    // Rights, and who we are.
    ("28", Installation(Remedy::Login)),
    ("42501", Installation(Remedy::Grant)),
    // Tables, columns, functions that are missing or have another type.
    ("3D", Installation(Remedy::Migrate)),
    ("3F", Installation(Remedy::Migrate)),
    ("42", Installation(Remedy::Migrate)),
    ("0A", Installation(Remedy::Migrate)),
    // Resources.
    ("53", Installation(Remedy::Server)),
    ("53100", Installation(Remedy::Disk)),
    ("53200", Installation(Remedy::Memory)),
    ("53300", Installation(Remedy::Connections)),
    ("58030", Installation(Remedy::Disk)),
    // A read-only server.
    ("25006", Installation(Remedy::Standby)),
    // Locks and time.
    ("55P03", Installation(Remedy::Lock)),
    ("57014", Installation(Remedy::Slow)),
    // Statements that we prepared and the server has forgotten.
    ("26", Installation(Remedy::Pooler)),
    // RAISE in PL/pgSQL.
    ("P0", Installation(Remedy::Trigger)),
];

/// Whose fault this code is.
pub fn fault_of(sqlstate: &str) -> Fault {
    let matching = TABLE.iter().filter(|(prefix, _)| sqlstate.starts_with(prefix));
    matching.max_by_key(|(prefix, _)| prefix.len()).map_or(Installation(Remedy::Server), |(_, fault)| *fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn are(fault: Fault, codes: &[&str]) {
        for code in codes {
            assert_eq!(fault_of(code), fault, "{code}");
        }
    }

    #[test]
    fn a_lost_connection_and_a_restart_are_nobodys_fault() {
        are(Away, &["08000", "08003", "08006", "57P01", "57P02", "57P03", "57P05", "25P03"]);
    }

    #[test]
    fn a_transaction_that_came_in_between_is_nobodys_fault() {
        are(Again, &["40001", "40P01", "40003"]);
    }

    #[test]
    fn a_value_is_the_rows_own() {
        are(Row, &["22000", "22001", "22003", "22021", "22P02", "22P05"]);
        are(Row, &["23503", "23505", "23514", "23P01", "40002", "21000", "54000"]);
    }

    #[test]
    fn a_lost_grant_is_the_installations() {
        are(Installation(Remedy::Grant), &["42501"]);
        are(Installation(Remedy::Login), &["28000", "28P01"]);
    }

    #[test]
    fn tables_of_another_shape_are_the_installations() {
        are(Installation(Remedy::Migrate), &["42P01", "42703", "42804", "42883", "0A000", "3F000", "3D000"]);
        are(Installation(Remedy::Migrate), &["23502"]);
    }

    #[test]
    fn a_server_without_disk_memory_or_connections_is_the_installations() {
        are(Installation(Remedy::Disk), &["53100", "58030"]);
        are(Installation(Remedy::Memory), &["53200"]);
        are(Installation(Remedy::Connections), &["53300"]);
    }

    #[test]
    fn a_standby_is_the_installations() {
        are(Installation(Remedy::Standby), &["25006"]);
    }

    #[test]
    fn locks_and_slowness_are_the_installations() {
        are(Installation(Remedy::Lock), &["55P03"]);
        are(Installation(Remedy::Slow), &["57014"]);
    }

    #[test]
    fn a_trigger_that_raises_is_the_installations() {
        are(Installation(Remedy::Trigger), &["P0001"]);
    }

    #[test]
    fn what_the_table_does_not_know_is_the_installations() {
        are(Installation(Remedy::Server), &["XX000", "XX001", "F0000", "72000", "53400", "58000", "54001"]);
    }
}

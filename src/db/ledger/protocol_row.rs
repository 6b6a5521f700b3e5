//! A ledger row as the delivery protocol sees it.

use tokio_postgres::Row as SqlRow;

use crate::db::Error;
use crate::db::row::Read;
use crate::domain::protocol::{Row, Status};

/// Reads the columns that the protocol looks at.
pub(super) fn protocol_row(row: &SqlRow) -> Result<Row, Error> {
    let status: &str = row.read("status")?;
    Ok(Row {
        status: Status::parse(status).ok_or_else(|| Error::Unreadable {
            table: "t_wechat_delivery",
            what: format!("status {status}"),
        })?,
        epoch: row.read("epoch")?,
        claim: row.read("claim")?,
        leased: row.read("leased")?,
        timeouts: row.read("timeouts")?,
        take_overs: row.read("take_overs")?,
    })
}

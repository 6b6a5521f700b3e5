//! The token that an app's row holds.

use std::time::Duration;

use secrecy::SecretString;
use tokio_postgres::Row;

use super::secrets::SecretColumn;
use crate::db::Error;
use crate::db::row::Read;
use crate::domain::ids::AppId;
use crate::sealing::{OpenError, Sealer};

/// A stored token that has not expired.
#[derive(Debug, Clone)]
pub struct StoredToken {
    /// Or why it cannot be opened: then it is as good as none.
    pub value: Result<SecretString, OpenError>,
    /// Time left when the row was read, by the database's clock.
    pub expires_in: Duration,
}

pub(super) fn read_token(row: &Row, app_id: &AppId, sealer: &Sealer) -> Result<Option<StoredToken>, Error> {
    let text: Option<String> = row.read("access_token")?;
    let expires_in_s: Option<f64> = row.read("expires_in_s")?;
    let expires_in = expires_in_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Ok(match (text.filter(|text| !text.is_empty()), expires_in) {
        (Some(text), Some(expires_in)) => {
            Some(StoredToken { value: SecretColumn::AccessToken.read(sealer, app_id, text), expires_in })
        }
        _ => None,
    })
}

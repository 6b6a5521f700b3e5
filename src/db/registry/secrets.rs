//! The columns of `t_wechat_app` that hold secrets. A sealed value is bound to its column and its app.

use secrecy::SecretString;

use crate::domain::ids::AppId;
use crate::sealing::{OpenError, Sealer};

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) enum SecretColumn {
    AppSecret,
    AccessToken,
    /// Decrypts WeChat's callbacks.
    EncodingAesKey,
}

impl SecretColumn {
    /// Its name in the table.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::AppSecret => "app_secret",
            Self::AccessToken => "access_token",
            Self::EncodingAesKey => "encoding_aes_key",
        }
    }

    /// The secret in this column's text.
    pub(super) fn read(
        self,
        sealer: &Sealer,
        app_id: &AppId,
        stored: String,
    ) -> Result<SecretString, OpenError> {
        sealer.read(&self.place(app_id), stored)
    }

    /// The text for this column.
    pub(super) fn write(self, sealer: &Sealer, app_id: &AppId, plain: &SecretString) -> SecretString {
        sealer.write(&self.place(app_id), plain)
    }

    fn place(self, app_id: &AppId) -> String {
        format!("t_wechat_app/{}/{}", self.as_str(), app_id.as_str())
    }
}

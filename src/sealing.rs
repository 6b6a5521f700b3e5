//! Secrets at rest: sealed with AES-256-GCM under one master key, where the configuration names one.
//!
//! A sealed value is text, `sealed:v1:` and the base64 of nonce, ciphertext and tag, so it fits the column that held the
//! plain one. Each is bound to its *place*, `table/column/row`: moved to another row, it does not open.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};

/// What every sealed value begins with. WeChat's secrets contain no colon.
pub const SEALED: &str = "sealed:v1:";

/// AES-256.
const KEY_BYTES: usize = 32;

/// The key that seals.
pub struct MasterKey(LessSafeKey);

/// Why there is no key. Never quotes the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("security.master_key_file {path}: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error(
        "security.master_key_file {path} must hold {KEY_BYTES} bytes as 64 hex digits or base64: \
         `openssl rand -hex {KEY_BYTES}` makes a key"
    )]
    Malformed { path: String },
}

/// Why a stored value cannot be read. `place` names table, column and row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("{place} is sealed, and security.master_key_file is not set")]
    NoKey { place: String },
    #[error("{place} was sealed with another key than that in security.master_key_file, or for another row")]
    Refused { place: String },
    #[error("{place} begins like a sealed value but is not one")]
    Malformed { place: String },
}

impl MasterKey {
    /// Reads the key: 64 hex digits, or the base64 of 32 bytes. White space around it is ignored.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let shown = || path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map(SecretString::from)
            .map_err(|source| KeyError::Unreadable { path: shown(), source })?;
        Self::parse(text.expose_secret().trim()).ok_or_else(|| KeyError::Malformed { path: shown() })
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = from_hex(text).or_else(|| STANDARD.decode(text).ok())?;
        // Refuses every other length than that of the key.
        UnboundKey::new(&AES_256_GCM, &bytes).ok().map(LessSafeKey::new).map(Self)
    }

    /// Seals for this place. Each sealing differs, also of the same text.
    ///
    /// # Panics
    /// If the system has no random bytes; TLS would not work there either.
    pub fn seal(&self, place: &str, plain: &SecretString) -> String {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).expect("the system gives random bytes");
        let mut text = plain.expose_secret().as_bytes().to_vec();
        // Random nonces do not repeat before some 2^32 values; a token every two hours is far from that.
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut text)
            .expect("a secret is shorter than the cipher's 64 GiB");
        format!("{SEALED}{}", STANDARD.encode([nonce.as_slice(), &text].concat()))
    }

    /// Opens what [`Self::seal`] made for the same place.
    pub fn open(&self, place: &str, sealed: &str) -> Result<SecretString, OpenError> {
        let malformed = || OpenError::Malformed { place: place.to_owned() };
        let coded = sealed.strip_prefix(SEALED).ok_or_else(malformed)?;
        let mut bytes = STANDARD.decode(coded).map_err(|_| malformed())?;
        let (nonce, text) = bytes.split_first_chunk_mut().ok_or_else(malformed)?;
        let opened = self
            .0
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(place), text)
            .map_err(|_| OpenError::Refused { place: place.to_owned() })?;
        str::from_utf8(opened).map(SecretString::from).map_err(|_| malformed())
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.len() == 2 * KEY_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).ok();
    is_hex.then(|| (0..text.len()).step_by(2).map(byte).collect()).flatten()
}

/// Reads and writes secrets as configured: sealed where there is a key, otherwise in plaintext. Plaintext values can be read
/// either way, so that a key can be introduced while the daemon runs.
#[derive(Clone, Default)]
pub struct Sealer(Option<Arc<MasterKey>>);

impl Sealer {
    /// Seals with the key in this file; `None` leaves secrets as they are.
    pub fn from_file(path: Option<&Path>) -> Result<Self, KeyError> {
        Ok(Self(path.map(MasterKey::from_file).transpose()?.map(Arc::new)))
    }

    /// Is there a key?
    pub fn has_key(&self) -> bool {
        self.0.is_some()
    }

    /// The text to store at this place.
    pub fn write(&self, place: &str, plain: &SecretString) -> SecretString {
        self.0.as_ref().map_or_else(|| plain.clone(), |key| key.seal(place, plain).into())
    }

    /// The secret in the text stored at this place.
    pub fn read(&self, place: &str, stored: String) -> Result<SecretString, OpenError> {
        match &self.0 {
            _ if !stored.starts_with(SEALED) => Ok(stored.into()),
            Some(key) => key.open(place, &stored),
            None => Err(OpenError::NoKey { place: place.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "t_wechat_app/app_secret/wx1";

    fn key(text: &str) -> MasterKey {
        MasterKey::parse(text).expect("a good key")
    }

    fn one_key() -> MasterKey {
        key(&"0f".repeat(32))
    }

    #[test]
    fn what_was_sealed_opens_and_is_not_to_be_seen_before() {
        let secret = SecretString::from("5ecre7");
        let (one, other) = (one_key().seal(HERE, &secret), one_key().seal(HERE, &secret));
        assert_ne!(one, other, "a nonce was used twice");
        assert!(one.starts_with(SEALED) && !one.contains("5ecre7"));
        assert_eq!(one_key().open(HERE, &one).unwrap().expose_secret(), "5ecre7");
    }

    #[test]
    fn another_key_another_place_or_another_bit_does_not_open() {
        let sealed = one_key().seal(HERE, &"5ecre7".into());
        let refused = |place: &str| Some(OpenError::Refused { place: place.to_owned() });
        assert_eq!(key(&"0e".repeat(32)).open(HERE, &sealed).err(), refused(HERE));
        let elsewhere = "t_wechat_app/app_secret/wx2";
        assert_eq!(one_key().open(elsewhere, &sealed).err(), refused(elsewhere));

        let bytes = STANDARD.decode(&sealed[SEALED.len()..]).unwrap();
        for at in 0..bytes.len() {
            let mut bent = bytes.clone();
            bent[at] ^= 1;
            let bent = format!("{SEALED}{}", STANDARD.encode(bent));
            assert_eq!(one_key().open(HERE, &bent).err(), refused(HERE), "byte {at}");
        }
    }

    #[test]
    fn what_only_begins_like_a_sealed_value_is_malformed() {
        for rest in ["", "AAAA", "not base64!"] {
            let opened = one_key().open(HERE, &format!("{SEALED}{rest}"));
            assert!(matches!(opened, Err(OpenError::Malformed { .. })), "{rest}");
        }
    }

    #[test]
    fn hex_and_base64_name_the_same_key() {
        let sealed = one_key().seal(HERE, &"5ecre7".into());
        assert!(key(&STANDARD.encode([0x0f; 32])).open(HERE, &sealed).is_ok());
        assert!(key(&"0F".repeat(32)).open(HERE, &sealed).is_ok());
        let long = STANDARD.encode([0; 33]);
        for text in ["", "0f", &"0f".repeat(31), &"0f".repeat(33), &"0g".repeat(32), &long] {
            assert!(MasterKey::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn without_a_key_secrets_stay_as_they_are_and_a_sealed_one_names_the_setting() {
        let (without, with) = (Sealer::default(), Sealer(Some(Arc::new(one_key()))));
        assert_eq!(without.write(HERE, &"5ecre7".into()).expose_secret(), "5ecre7");
        for sealer in [&without, &with] {
            assert_eq!(sealer.read(HERE, "5ecre7".to_owned()).unwrap().expose_secret(), "5ecre7");
        }
        let sealed = with.write(HERE, &"5ecre7".into()).expose_secret().to_owned();
        assert_eq!(with.read(HERE, sealed.clone()).unwrap().expose_secret(), "5ecre7");
        let refused = without.read(HERE, sealed).unwrap_err();
        assert!(refused.to_string().contains("security.master_key_file is not set"), "{refused}");
    }

    #[test]
    fn a_file_without_a_key_is_named_and_not_quoted() {
        let path = std::env::temp_dir().join(format!("short-key-{}", std::process::id()));
        std::fs::write(&path, "5ecre7\n").unwrap();
        let refused = Sealer::from_file(Some(&path)).err().expect("too short").to_string();
        std::fs::write(&path, format!("{}\n", "0f".repeat(32))).unwrap();
        assert!(Sealer::from_file(Some(&path)).is_ok_and(|sealer| sealer.has_key()));
        std::fs::remove_file(&path).unwrap();
        assert!(refused.contains("short-key") && !refused.contains("5ecre7"), "{refused}");
        assert!(matches!(Sealer::from_file(Some(&path)), Err(KeyError::Unreadable { .. })));
    }
}

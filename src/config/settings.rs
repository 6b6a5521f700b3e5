//! The layers: defaults, file, environment. A later layer overrides an earlier one; unknown keys are errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::{self, NotToml, Raw};
use super::error::{Advice, ConfigError, SetBy};
use super::suggest::advice;
use super::trust::{self, Choice};

/// The prefix of our variables.
const PREFIX: &str = "WECHAT_NOTIFIER_";
/// Common variables of platforms, and their keys.
const WELL_KNOWN: [(&str, &str); 4] = [
    ("AMQP_URL", "amqp.url"),
    ("AMQP_URL_FILE", "amqp.url_file"),
    ("DATABASE_URL", "database.url"),
    ("DATABASE_URL_FILE", "database.url_file"),
];

/// One value and where it comes from.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) value: Raw,
    pub(super) set_by: SetBy,
    pub(super) layer: Layer,
}

/// The precedence: later over earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    Default,
    File,
    WellKnownVariable,
    OwnVariable,
}

/// Every key, with its effective value.
pub(super) struct Settings {
    /// The defaults say which keys there are, and of what kind.
    defaults: BTreeMap<String, Given>,
    laid: BTreeMap<String, Given>,
}

impl Settings {
    /// The defaults, which also say which keys there are.
    pub(super) fn defaults(text: &str) -> Result<Self, ConfigError> {
        let syntax = |error: NotToml| ConfigError::Syntax { set_by: SetBy::Default, problem: error.problem };
        let given = |value| Given { value, set_by: SetBy::Default, layer: Layer::Default };
        let entries = document::entries(text).map_err(syntax)?;
        let defaults = entries.into_iter().map(|entry| (entry.key, given(entry.value))).collect();
        Ok(Self { defaults, laid: BTreeMap::new() })
    }

    /// Lays a configuration file over what is there.
    pub(super) fn lay_file(&mut self, path: &Path, choice: Choice) -> Result<(), ConfigError> {
        let text = trust::read(path, choice)?;
        self.lay_text(&text, path)
    }

    /// Lays the text of the file at `path`.
    pub(super) fn lay_text(&mut self, text: &str, path: &Path) -> Result<(), ConfigError> {
        let path: Arc<PathBuf> = Arc::new(path.to_owned());
        let set_by = |line| SetBy::File { path: path.clone(), line };
        let mut entries = document::entries(text)
            .map_err(|error| ConfigError::Syntax { set_by: set_by(error.line), problem: error.problem })?;
        // The first fault in the file is reported first.
        entries.sort_by_key(|entry| entry.line);
        for entry in entries {
            let set_by = set_by(entry.line);
            if !self.defaults.contains_key(&entry.key) {
                let advice = advice(&entry.key, self.keys());
                return Err(ConfigError::UnknownKey { key: entry.key, set_by, advice });
            }
            self.laid.insert(entry.key, Given { value: entry.value, set_by, layer: Layer::File });
        }
        Ok(())
    }

    /// Lays the environment over what is there. Variables that are not meant for us are ignored.
    pub(super) fn lay_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, text) in variables {
            if let Some((_, key)) = WELL_KNOWN.iter().find(|(known, _)| *known == name) {
                // Compose files and shells leave such variables empty when they mean "not set".
                if !text.is_empty() {
                    self.lay_variable(key, name, text, Layer::WellKnownVariable)?;
                }
            } else if let Some(key) = self.key_of_variable(&name)? {
                self.lay_variable(&key, name, text, Layer::OwnVariable)?;
            }
        }
        Ok(())
    }

    fn lay_variable(
        &mut self,
        key: &str,
        name: String,
        text: String,
        layer: Layer,
    ) -> Result<(), ConfigError> {
        if self.get(key).layer > layer {
            return Ok(());
        }
        let set_by = SetBy::Variable(name);
        let value = self.typed(key, text).map_err(|problem| ConfigError::Value {
            key: key.to_owned(),
            set_by: set_by.clone(),
            problem: problem.to_owned(),
        })?;
        self.laid.insert(key.to_owned(), Given { value, set_by, layer });
        Ok(())
    }

    /// A variable is only text; the default shows its type.
    fn typed(&self, key: &str, text: String) -> Result<Raw, &'static str> {
        match self.defaults.get(key).map(|default| &default.value) {
            Some(Raw::Number(_)) => {
                text.trim().parse().map(Raw::Number).map_err(|_| "must be a whole number")
            }
            Some(Raw::Switch(_)) => text.trim().parse().map(Raw::Switch).map_err(|_| "must be true or false"),
            Some(Raw::List(_)) => document::list(&text).ok_or(r#"must be a TOML array, e.g. ["10s", "1m"]"#),
            Some(Raw::Text(_) | Raw::Other(_)) | None => Ok(Raw::Text(text)),
        }
    }

    /// The key that a variable sets; `None` where the variable is none of the configuration's.
    fn key_of_variable(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let Some(rest) = name.strip_prefix(PREFIX) else { return Ok(None) };
        let wanted = rest.to_ascii_lowercase().replacen("__", ".", 1);
        if self.defaults.contains_key(&wanted) {
            return Ok(Some(wanted));
        }
        // Kubernetes gives a pod beside a service of our name `…_SERVICE_HOST` and `…_PORT`, and other parts of ours read
        // variables too. So a name counts as meant for us when it has the double line, or begins with a section.
        let section = rest.split_once('_').map(|(first, _)| format!("{}.", first.to_ascii_lowercase()));
        let begins_with_section =
            section.is_some_and(|section| self.keys().any(|key| key.starts_with(&section)));
        if !wanted.contains('.') && !begins_with_section {
            return Ok(None);
        }
        let guess = if wanted.contains('.') { wanted } else { wanted.replacen('_', ".", 1) };
        let advice = match advice(&guess, self.keys()) {
            Advice::DidYouMean(key) => Advice::DidYouMean(variable_of_key(&key)),
            advice @ Advice::ReadTheList => advice,
        };
        Err(ConfigError::UnknownVariable { name: name.to_owned(), advice })
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> &Given {
        let given = self.laid.get(key).or_else(|| self.defaults.get(key));
        given.unwrap_or_else(|| unreachable!("`{key}` is in the shipped example"))
    }

    /// Every key.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.defaults.keys().map(String::as_str)
    }
}

/// The variable that sets a key.
fn variable_of_key(key: &str) -> String {
    format!("{PREFIX}{}", key.replacen('.', "__", 1).to_ascii_uppercase())
}

//! How a request goes wrong: what the client sees, and whether the platform does the work all the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a struck request goes wrong.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "Value")]
pub struct Action {
    /// Waited before anything else is done, on top of the latency.
    pub delay_ms: u64,
    /// Whether the request is processed all the same (a message is delivered, a token rotated, …).
    pub deliver: bool,
    pub answer: Answer,
}

/// What the client sees.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The true answer.
    Honest,
    /// An errcode over HTTP 200.
    Errcode { errcode: i64, errmsg: Option<String> },
    /// A bare HTTP answer, as from a proxy in between.
    Http { status: u16, body: String, headers: BTreeMap<String, String> },
    /// The connection ends with RST.
    Reset,
    /// Nothing, until the client leaves.
    Hang,
    /// Half of the true body now, the rest later.
    SlowBody { ms: u64 },
    /// HTTP 200 with something that is not JSON.
    Garbage,
}

impl Answer {
    /// The word for it in a recorded request.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Honest => "delay",
            Self::Errcode { .. } => "errcode",
            Self::Http { .. } => "http",
            Self::Reset => "reset",
            Self::Hang => "hang",
            Self::SlowBody { .. } => "slow_body",
            Self::Garbage => "garbage",
        }
    }

    /// Whether a client that sees this was really served, unless the rule says otherwise.
    fn delivers_by_default(&self) -> bool {
        matches!(self, Self::Honest | Self::SlowBody { .. } | Self::Garbage)
    }
}

/// An action as it is written in JSON or TOML.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ActionFields {
    delay_ms: u64,
    deliver: Option<bool>,
    errcode: Option<i64>,
    errmsg: Option<String>,
    http_status: Option<u16>,
    body: String,
    headers: BTreeMap<String, String>,
    reset: bool,
    hang: bool,
    slow_body_ms: Option<u64>,
    garbage: bool,
}

impl ActionFields {
    /// The short form: a single word for what needs no numbers.
    fn from_word(word: &str) -> Result<Self, String> {
        let plain = Self::default();
        match word {
            "reset" => Ok(Self { reset: true, ..plain }),
            "reset_after_send" => Ok(Self { reset: true, deliver: Some(true), ..plain }),
            "hang" => Ok(Self { hang: true, ..plain }),
            "garbage" => Ok(Self { garbage: true, ..plain }),
            other => Err(format!("unknown action {other:?}: reset, reset_after_send, hang or garbage")),
        }
    }

    fn answers(self) -> Vec<Answer> {
        let (errmsg, body, headers) = (self.errmsg, self.body, self.headers);
        [
            self.errcode.map(|errcode| Answer::Errcode { errcode, errmsg }),
            self.http_status.map(|status| Answer::Http { status, body, headers }),
            self.slow_body_ms.map(|ms| Answer::SlowBody { ms }),
            self.reset.then_some(Answer::Reset),
            self.hang.then_some(Answer::Hang),
            self.garbage.then_some(Answer::Garbage),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl TryFrom<Value> for Action {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let fields = match &value {
            Value::String(word) => ActionFields::from_word(word)?,
            _ => serde_json::from_value(value).map_err(|error| error.to_string())?,
        };
        let (delay_ms, deliver) = (fields.delay_ms, fields.deliver);
        let mut answers = fields.answers();
        let answer = answers.pop().unwrap_or(Answer::Honest);
        if !answers.is_empty() {
            return Err("an action must have one kind of answer only".to_owned());
        }
        Ok(Self { delay_ms, deliver: deliver.unwrap_or_else(|| answer.delivers_by_default()), answer })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_broken_answer_means_not_delivered() {
        let delivers = |action: Value| serde_json::from_value::<Action>(action).unwrap().deliver;
        assert!(!delivers(json!("reset")));
        assert!(delivers(json!("reset_after_send")));
        assert!(!delivers(json!({ "errcode": -1 })));
        assert!(delivers(json!({ "http_status": 502, "deliver": true })));
        assert!(delivers(json!({ "slow_body_ms": 5 })));
    }

    #[test]
    fn an_action_that_makes_no_sense_is_refused_with_a_reason() {
        let error = |action: Value| serde_json::from_value::<Action>(action).unwrap_err().to_string();
        assert!(error(json!("explode")).contains("unknown action"));
        assert!(error(json!({ "errcode": 1, "hang": true })).contains("one kind"));
        assert!(error(json!({ "errcod": 1 })).contains("errcod"));
    }
}

//! Fault rules: which requests go wrong, how often, and how.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a rule or a question can select requests by; an absent field selects all.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// The name of an endpoint: `send`, `stable_token`, `token`, `jscode2session`, `gettemplate`.
    pub path: Option<String>,
    pub appid: Option<String>,
    pub openid: Option<String>,
    pub template_id: Option<String>,
}

/// Whom a request concerns, as far as it says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    pub path: &'a str,
    pub appid: Option<&'a str>,
    pub openid: Option<&'a str>,
    pub template_id: Option<&'a str>,
}

impl Selector {
    /// Whether everything it names agrees with the subject.
    pub fn selects(&self, subject: &Subject<'_>) -> bool {
        let agrees = |wanted: &Option<String>, actual: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| actual == Some(wanted))
        };
        agrees(&self.path, Some(subject.path))
            && agrees(&self.appid, subject.appid)
            && agrees(&self.openid, subject.openid)
            && agrees(&self.template_id, subject.template_id)
    }
}

/// One rule: of the requests that `match` selects, let `skip` through, then strike every `every`th, `times` times.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    #[serde(default, rename = "match")]
    pub selector: Selector,
    /// Absent or null: until cleared.
    pub times: Option<u64>,
    #[serde(default)]
    pub skip: u64,
    #[serde(default = "every_one")]
    pub every: u64,
    pub action: Action,
}

fn every_one() -> u64 {
    1
}

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
            return Err("an action gives one kind of answer only".to_owned());
        }
        Ok(Self { delay_ms, deliver: deliver.unwrap_or_else(|| answer.delivers_by_default()), answer })
    }
}

/// The rules in force, in the order they were added; the first that strikes decides.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Vec<Watched>,
    last_id: u64,
}

/// A rule with its counts.
#[derive(Debug, Serialize)]
pub struct Watched {
    pub id: u64,
    /// Requests the rule selected.
    pub seen: u64,
    /// Requests the rule struck.
    pub struck: u64,
    #[serde(flatten)]
    pub rule: Rule,
}

impl Faults {
    /// Adds a rule behind the others and returns its id.
    pub fn add(&mut self, rule: Rule) -> u64 {
        self.last_id += 1;
        self.rules.push(Watched { id: self.last_id, seen: 0, struck: 0, rule });
        self.last_id
    }

    /// The action for a request, if a rule strikes it.
    pub fn strike(&mut self, subject: &Subject<'_>) -> Option<Action> {
        self.rules
            .iter_mut()
            .filter(|watched| watched.rule.selector.selects(subject))
            .find_map(Watched::strike)
    }

    /// Removes one rule, or all; returns how many went.
    pub fn clear(&mut self, id: Option<u64>) -> usize {
        let before = self.rules.len();
        self.rules.retain(|watched| id.is_some_and(|id| id != watched.id));
        before - self.rules.len()
    }

    /// All rules, spent ones too, with their counts.
    pub fn list(&self) -> &[Watched] {
        &self.rules
    }
}

impl Watched {
    fn strike(&mut self) -> Option<Action> {
        self.seen += 1;
        let due =
            self.seen > self.rule.skip && (self.seen - self.rule.skip).is_multiple_of(self.rule.every.max(1));
        if !due || self.rule.times.is_some_and(|times| self.struck >= times) {
            return None;
        }
        self.struck += 1;
        Some(self.rule.action.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn strikes(rule: Value, requests: usize) -> Vec<bool> {
        let mut faults = Faults::default();
        faults.add(serde_json::from_value(rule).unwrap());
        let subject = Subject { path: "send", openid: Some("oA"), ..Subject::default() };
        (0..requests).map(|_| faults.strike(&subject).is_some()).collect()
    }

    #[test]
    fn a_rule_skips_then_strikes_every_nth_so_many_times() {
        let rule = json!({ "skip": 1, "every": 2, "times": 2, "action": "reset" });
        assert_eq!(strikes(rule, 7), [false, false, true, false, true, false, false]);
    }

    #[test]
    fn a_rule_strikes_only_what_it_selects() {
        let rule = json!({ "match": { "openid": "oB" }, "action": "hang" });
        assert_eq!(strikes(rule, 2), [false, false]);
        let rule = json!({ "match": { "openid": "oA", "path": "send" }, "action": "hang" });
        assert_eq!(strikes(rule, 2), [true, true]);
    }

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

//! Fault rules: which requests go wrong, and how often.

use serde::{Deserialize, Serialize};

use super::action::Action;
use crate::traffic::{Selector, Subject};

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
    use serde_json::{Value, json};

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
}

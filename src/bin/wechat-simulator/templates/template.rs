//! Templates an app has registered, and whether a message's data fits one (docs/WECHAT.md#templates).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::field;
use crate::errcode::Refusal;

/// A private template, as a scenario writes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    pub template_id: String,
    #[serde(default)]
    pub title: String,
    /// Lines of `label:{{key.DATA}}`; the keys in it are what a message must carry.
    pub content: String,
    #[serde(default)]
    pub example: String,
    /// 2 = one-time, 3 = long-term.
    #[serde(default = "one_time", rename = "type")]
    pub kind: u8,
    /// Allowed values of the enum keys, by key: `{"enum_string2": ["paid", "due"]}`.
    #[serde(default)]
    pub keyword_enums: BTreeMap<String, Vec<String>>,
}

fn one_time() -> u8 {
    2
}

impl Template {
    /// Checks a message's data against the template's keys and their types. Other keys are ignored.
    ///
    /// # Errors
    /// 47003 naming the first field that is missing, empty or of the wrong type.
    pub fn check(&self, data: &Map<String, Value>) -> Result<(), Refusal> {
        self.keys().try_for_each(|key| {
            let value = data.get(key).map_or(Ok(""), |entry| text_of(key, entry))?;
            if value.trim().is_empty() {
                return Err(Refusal::bad_field(key, "is empty"));
            }
            let allowed = self.keyword_enums.get(key).map(Vec::as_slice);
            if field::fits(key, value, allowed) { Ok(()) } else { Err(Refusal::bad_field(key, "invalid")) }
        })
    }

    /// One element of gettemplate's `data`. `keywordCode` keeps its suffix there.
    pub fn listed(&self) -> Value {
        let mut listed = json!({
            "priTmplId": self.template_id,
            "title": self.title,
            "content": self.content,
            "example": self.example,
            "type": self.kind,
        });
        if !self.keyword_enums.is_empty() {
            listed["keywordEnumValueList"] = self
                .keyword_enums
                .iter()
                .map(|(key, values)| json!({ "keywordCode": format!("{key}.DATA"), "enumValueList": values }))
                .collect();
        }
        listed
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.content.split("{{").skip(1).filter_map(|rest| Some(rest.split_once(".DATA")?.0.trim()))
    }
}

/// Checks data of a message whose template is not registered: every entry must hold some text.
///
/// # Errors
/// 47003 naming the first field without.
pub fn check_shape(data: &Map<String, Value>) -> Result<(), Refusal> {
    data.iter().try_for_each(|(key, entry)| {
        let empty = text_of(key, entry)?.trim().is_empty();
        if empty { Err(Refusal::bad_field(key, "is empty")) } else { Ok(()) }
    })
}

/// The text in `{"value": "text"}`.
fn text_of<'a>(key: &str, entry: &'a Value) -> Result<&'a str, Refusal> {
    entry.get("value").and_then(Value::as_str).ok_or_else(|| Refusal::bad_field(key, "invalid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payment() -> Template {
        serde_json::from_value(json!({
            "template_id": "T1",
            "content": "金额:{{amount1.DATA}}\n状态:{{enum_string2.DATA}}\n",
            "keyword_enums": { "enum_string2": ["已支付", "待支付"] },
        }))
        .unwrap()
    }

    fn complaint(data: Value) -> Option<String> {
        let data = data.as_object().unwrap().clone();
        payment().check(&data).err().map(|refusal| refusal.errmsg.into_owned())
    }

    #[test]
    fn fitting_data_passes_and_other_keys_are_ignored() {
        let data =
            json!({ "amount1": {"value": "¥100.00"}, "enum_string2": {"value": "已支付"}, "color": "#000" });
        assert_eq!(complaint(data), None);
    }

    #[test]
    fn the_first_bad_field_is_named() {
        let missing = json!({ "amount1": {"value": "¥100.00"} });
        assert_eq!(complaint(missing).unwrap(), "argument invalid! data.enum_string2.value is empty");
        let wrong = json!({ "amount1": {"value": "a lot"}, "enum_string2": {"value": "nope"} });
        assert_eq!(complaint(wrong).unwrap(), "argument invalid! data.amount1.value invalid");
        let number = json!({ "amount1": {"value": 100}, "enum_string2": {"value": "已支付"} });
        assert_eq!(complaint(number).unwrap(), "argument invalid! data.amount1.value invalid");
    }

    #[test]
    fn the_listing_keeps_the_suffix_of_the_keyword() {
        assert_eq!(payment().listed()["keywordEnumValueList"][0]["keywordCode"], "enum_string2.DATA");
    }
}

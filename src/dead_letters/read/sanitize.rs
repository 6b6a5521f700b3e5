//! Makes foreign texts fit for PostgreSQL, which takes no NUL, and bounded.

use serde_json::Value;

/// Characters kept of a text. Identifiers have 128 at most, error texts 256; more helps nobody in a column to search by.
const MAX_CHARS: usize = 512;

/// Levels kept of a nested header. Ours have one, `x-death` three.
const MAX_DEPTH: usize = 8;

/// Stands for what lies deeper.
const TOO_DEEP: &str = "…";

/// The text without NUL, cut to [`MAX_CHARS`].
pub fn sanitized(text: &str) -> String {
    text.chars().filter(|character| *character != '\0').take(MAX_CHARS).collect()
}

/// The headers without NUL and without what lies deeper than [`MAX_DEPTH`]. Their texts keep their lengths: one AMQP frame
/// bounds them all.
pub fn sanitized_headers(headers: Value) -> Value {
    sanitized_value(headers, MAX_DEPTH)
}

fn sanitized_value(value: Value, depth: usize) -> Value {
    match value {
        Value::Array(_) | Value::Object(_) if depth == 0 => Value::from(TOO_DEEP),
        Value::Array(items) => items.into_iter().map(|item| sanitized_value(item, depth - 1)).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name.replace('\0', ""), sanitized_value(value, depth - 1)))
            .collect(),
        Value::String(text) if text.contains('\0') => Value::from(text.replace('\0', "")),
        plain => plain,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nul_goes_and_the_rest_stays() {
        assert_eq!(sanitized("a\0b"), "ab");
        assert_eq!(sanitized(&"订".repeat(600)).chars().count(), MAX_CHARS);
        let headers = json!({ "a\0": ["x\0y", 1, { "b": null }] });
        assert_eq!(sanitized_headers(headers), json!({ "a": ["xy", 1, { "b": null }] }));
    }

    #[test]
    fn what_is_nested_too_deep_is_cut_off() {
        let mut deep = json!("bottom");
        for _ in 0..1_000 {
            deep = json!([deep]);
        }
        let text = sanitized_headers(json!({ "deep": deep })).to_string();
        assert!(text.contains(TOO_DEEP) && text.len() < 100, "{text}");
    }
}

//! Text from outside, made safe to look at: what would act on a terminal, or hide in a line, is spelled out.
//!
//! Event ids, names and WeChat's words come from other systems. An escape sequence among them could clear an operator's
//! screen, rewrite the lines above, or answer into the shell; a line break could forge a line of its own.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with every character that [is not plainly visible](acts_unseen) as an escape: `\n`, `\u{1b}`.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts_unseen) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if acts_unseen(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// JSON text that says the same with such characters as `\u001b`. Control characters below a blank are escaped in JSON
/// already, or are its own white space; all others can only stand in strings.
pub fn visible_json(json: &str) -> Cow<'_, str> {
    let acts = |c: char| c >= '\u{7f}' && acts_unseen(c);
    if !json.chars().any(acts) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if acts(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Controls (C0, DEL, C1), what changes the direction of text, and what is invisible.
fn acts_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_spelled_out() {
        assert_eq!(visible("\u{1b}[2J\u{7}\r\n\u{9b}1m"), r"\u{1b}[2J\u{7}\r\n\u{9b}1m");
        assert_eq!(visible("pay\u{202e}71\u{2066}\u{200f}\u{61c}"), r"pay\u{202e}71\u{2066}\u{200f}\u{61c}");
        assert_eq!(visible("a\u{200b}b\u{feff}\u{e0041}"), r"a\u{200b}b\u{feff}\u{e0041}");
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        for text in ["广州至北京 ¥100.00", "naïve – “quoted” \\n", "❤️ 👍🏽", "العربية עברית"]
        {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_unseen_is_left(text in any::<String>()) {
            prop_assert!(!visible(&text).chars().any(acts_unseen));
        }

        #[test]
        fn json_says_the_same(text in any::<String>(), odd in "[\u{1b}\u{9b}\u{202e}\u{200b}\u{e0041}\\\\\"]{0,8}") {
            let value = serde_json::json!({ (odd.clone()): text, "list": [odd] });
            let shown = visible_json(&value.to_string()).into_owned();
            prop_assert!(!shown.chars().any(|c| c != '\n' && acts_unseen(c)));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
    }
}

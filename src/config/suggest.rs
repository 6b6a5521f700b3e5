//! "Did you mean …?"

use super::error::Advice;

/// A key in the wrong section is as close as two characters.
const WRONG_SECTION: usize = 2;

/// The known name that looks most like `wrong`, if any looks like it at all.
pub(super) fn advice<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Advice {
    let nearest = known.map(|name| (unlikeness(wrong, name), name)).min();
    // A slip is a character or two; a third of the word is another word.
    let limit = (wrong.chars().count() / 3).clamp(WRONG_SECTION, 3);
    match nearest {
        Some((unlikeness, name)) if unlikeness <= limit => Advice::DidYouMean(name.to_owned()),
        _ => Advice::ReadTheList,
    }
}

fn unlikeness(wrong: &str, name: &str) -> usize {
    let same_word = wrong.rsplit('.').next() == name.rsplit('.').next();
    let edits = edits(wrong, name);
    if same_word { edits.min(WRONG_SECTION) } else { edits }
}

/// Characters to insert, delete or replace (Levenshtein), with one row of the table in memory.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (done, character) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], done + 1);
        for (at, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(character != *other);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["amqp.prefetch", "amqp.prefix", "http.listen", "retry.delays"];

    fn meant(wrong: &str) -> Option<String> {
        match advice(wrong, KNOWN.into_iter()) {
            Advice::DidYouMean(name) => Some(name),
            Advice::ReadTheList => None,
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_understood() {
        assert_eq!(meant("amqp.prefech").as_deref(), Some("amqp.prefetch"));
        assert_eq!(meant("retry.delay").as_deref(), Some("retry.delays"));
    }

    #[test]
    fn a_key_in_the_wrong_section_or_in_none_is_understood() {
        assert_eq!(meant("amqp.delays").as_deref(), Some("retry.delays"));
        assert_eq!(meant("prefetch").as_deref(), Some("amqp.prefetch"));
    }

    #[test]
    fn another_word_is_not_guessed_at() {
        assert_eq!(meant("smtp.password"), None);
    }
}

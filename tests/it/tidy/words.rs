//! Words that this project has given up for the field's own, or for plain English: they do not come back.
//!
//! Searched is what people read: code, comments, SQL, documents, and what is shipped. Not the migrations, which have been
//! applied as they are, nor what the changelog says of releases that are out.

use std::ops::Range;

use super::source::TextFile;

const SEARCHED: &[&str] = &["src/", "docs/", "README.md", "deploy/"];
const CHANGELOG: &str = "docs/CHANGELOG.md";

/// What was given up, and what to say. Forms are separated by `|`: a word is found whole or as a part of an identifier (`turn`
/// in `next_turn`, `NextTurn` and "a turn", not in "return"), a phrase however its words are joined.
const RETIRED: &[Retired] = &[
    // One word per thing. The changelog says what a name was before.
    retired("turn|turns", "epoch, or recipient lock")
        .unless("in turn|in turns|take turns|takes turns|its turn comes|order of their turn")
        .unless("turn on|turns on|turn off|turns off|turns tls on|turn up|turn into|turns into|turn one|turns many")
        .unless("turn the|turns the|turns that|turns verdicts|turns business|loops still turn|that it turns")
        .unless("lanes turn|lane s turn|x wn turn")
        .not_in("docs/CHANGELOG.md"),
    retired("carrier|carriers", "delivery message"),
    retired("letter|letters", "dead letter")
        .unless("dead letter|dead letters|x wn letter|letters and|letter 1")
        .not_in("src/bin/wechat-simulator/templates/field.rs|src/db/migrate.rs|docs/WECHAT.md|docs/CHANGELOG.md"),
    retired("obituary|obituaries|bury|buries|buried|burial", "dead-letter, the verb"),
    retired("origin|origins", "envelope"),
    retired("hand on|hands on|handed on|handing on|hand ons", "defer").not_in("docs/CHANGELOG.md"),
    retired("set aside|sets aside|setting aside", "defer"),
    retired("gate|gates|gated|circuit|circuits", "breaker"),
    retired("streak|streaks", "outage detector"),
    retired("playbook|playbooks", "runbook"),
    retired("purse|purses", "quota reservation"),
    // A Mini Program has a trial version.
    retired("trial|trials", "single-message mode, or attempt")
        .beside("formal")
        .not_in("deploy/event.schema.json|src/domain/event/wire/schema.rs"),
    retired("caution|cautious|cautiously", "single-message mode"),
    retired("token book|errand|errands", "token cache, or refresh"),
    retired("book|books|trip|trips|wish|wishes", "token cache, refresh, or request").only_in("src/token/"),
    retired("receipt|receipts", "ack handle").only_in("src/amqp/"),
    retired("receipt that can ack|receipt is acked", "ack handle"),
    retired("bulkhead|bulkheads", "lane"),
    // Plain English.
    retired("mend|mends|mended|mending", "fix"),
    retired("anew", "again"),
    retired("for ever", "forever"),
    retired("whoever", "who it is: the operator, the publisher"),
    retired("trouble|troubles", "failure"),
    retired("not to be had", "cannot be read"),
    retired("stands", "is").unless("stands for|stands alone|stands in for|message id stands in"),
    retired("stand unsealed|stand plain", "are stored in plaintext"),
    retired("tells", "shows")
        .beside("apart")
        .unless("tells a|tells an|tells every|tells people|tells operators|tells wechat|tells the others|tells the app")
        .unless("tells the story"),
    retired("he|him|his|himself", "the user, they, it"),
    retired("without a word", "without an error"),
    retired("trying on", "retrying"),
    retired("by the clock", "polling"),
    retired("wanted is", "expected"),
    retired("away for good|gone for good", "permanently deleted"),
    retired("rather never than twice", "at most once"),
    retired("askable", "queryable"),
];

pub struct Retired {
    forms: &'static str,
    say: &'static str,
    /// Phrases that hold a form and are right.
    unless: [&'static str; 4],
    /// On a line that holds this word, the form is right.
    beside: &'static str,
    only_in: &'static str,
    /// Files where it is right.
    not_in: &'static str,
}

const fn retired(forms: &'static str, say: &'static str) -> Retired {
    Retired { forms, say, unless: [""; 4], beside: "", only_in: "", not_in: "" }
}

impl Retired {
    const fn unless(mut self, phrases: &'static str) -> Self {
        let mut at = 0;
        while !self.unless[at].is_empty() {
            at += 1;
        }
        self.unless[at] = phrases;
        self
    }

    const fn beside(self, word: &'static str) -> Self {
        Self { beside: word, ..self }
    }

    const fn only_in(self, folder: &'static str) -> Self {
        Self { only_in: folder, ..self }
    }

    const fn not_in(self, files: &'static str) -> Self {
        Self { not_in: files, ..self }
    }

    fn concerns(&self, path: &str) -> bool {
        path.starts_with(self.only_in) && !self.not_in.split('|').any(|file| file == path)
    }

    fn is_right(&self, text: &Text<'_>, found: &Range<usize>) -> bool {
        let phrases = self.unless.iter().flat_map(|phrases| phrases.split('|')).filter(|it| !it.is_empty());
        phrases.into_iter().any(|phrase| text.is_within(found, phrase))
            || (!self.beside.is_empty() && text.line_holds(found.start, self.beside))
    }
}

/// One use of a retired word.
pub struct Finding {
    pub path: String,
    line: usize,
    found: String,
    say: &'static str,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}: {} → say {}", self.path, self.line, self.found, self.say)
    }
}

pub fn retired_words(files: &[TextFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for TextFile { path, text } in files.iter().filter(|file| is_searched(&file.path)) {
        let text = Text::of(if path == CHANGELOG { unreleased(text) } else { text });
        for retired in RETIRED.iter().filter(|retired| retired.concerns(path)) {
            let uses = retired.forms.split('|').flat_map(|form| text.uses(form));
            for found in uses.filter(|found| !retired.is_right(&text, found)) {
                let words: Vec<_> = text.words[found.clone()].iter().map(|word| word.text.as_str()).collect();
                let (path, line) = (path.clone(), text.line(found.start));
                findings.push(Finding { path, line, found: words.join(" "), say: retired.say });
            }
        }
    }
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    findings
}

fn is_searched(path: &str) -> bool {
    SEARCHED.iter().any(|begin| path.starts_with(begin))
}

/// Up to the first heading of a release.
fn unreleased(changelog: &str) -> &str {
    let mut headings = changelog.match_indices("\n## ").map(|(at, _)| at);
    let end = headings.find(|&at| !changelog[at..].starts_with("\n## [Unreleased]"));
    &changelog[..end.unwrap_or(changelog.len())]
}

/// A text as words.
struct Text<'a> {
    text: &'a str,
    words: Vec<Word>,
}

/// Letters of one word, or digits; in lower case. Identifiers are as many words as they have parts.
struct Word {
    at: usize,
    text: String,
}

impl<'a> Text<'a> {
    fn of(text: &'a str) -> Self {
        let mut words: Vec<Word> = Vec::new();
        let (mut before, mut is_open) = (' ', false);
        for (at, c) in text.char_indices() {
            // Of `HTTPServer` the `S` begins a word, as it does in `httpServer`.
            let next_is_lower =
                || text[at + c.len_utf8()..].chars().next().is_some_and(|next| next.is_ascii_lowercase());
            let is_hump = c.is_ascii_uppercase() && (!before.is_ascii_uppercase() || next_is_lower());
            let is_other_kind = c.is_ascii_digit() != before.is_ascii_digit();
            if !c.is_ascii_alphanumeric() {
                is_open = false;
            } else if !is_open || is_hump || is_other_kind {
                words.push(Word { at, text: c.to_ascii_lowercase().to_string() });
                is_open = true;
            } else if let Some(word) = words.last_mut() {
                word.text.push(c.to_ascii_lowercase());
            }
            before = c;
        }
        Self { text, words }
    }

    /// Where a word or phrase is used, as indexes of words.
    fn uses(&self, phrase: &str) -> Vec<Range<usize>> {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        let last = (self.words.len() + 1).saturating_sub(phrase.len());
        (0..last).filter(|&at| self.reads(at, &phrase)).map(|at| at..at + phrase.len()).collect()
    }

    /// Whether the phrase begins at this word.
    fn reads(&self, at: usize, phrase: &[&str]) -> bool {
        let Some(words) = self.words.get(at..at + phrase.len()) else { return false };
        words.iter().zip(phrase).all(|(word, wanted)| word.text == *wanted)
            && words.windows(2).all(|pair| is_joint(&self.text[pair[0].end()..pair[1].at]))
    }

    /// Whether the words found are part of this phrase.
    fn is_within(&self, found: &Range<usize>, phrase: &str) -> bool {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        let first = found.end.saturating_sub(phrase.len());
        (first..=found.start).any(|at| self.reads(at, &phrase))
    }

    fn line_holds(&self, word: usize, other: &str) -> bool {
        let line = self.line(word);
        let same_line = |at: &usize| self.line(*at) == line;
        let before = (0..word).rev().take_while(same_line);
        before.chain((word..self.words.len()).take_while(same_line)).any(|at| self.words[at].text == other)
    }

    /// The line of a word, from 1.
    fn line(&self, word: usize) -> usize {
        self.text[..self.words[word].at].matches('\n').count() + 1
    }
}

impl Word {
    fn end(&self) -> usize {
        self.at + self.text.len()
    }
}

/// What may be between two words of a phrase: nothing in `HandOn`, `_`, `-`, a space or an apostrophe, and the end of a line with
/// what marks the next one as comment or string.
fn is_joint(between: &str) -> bool {
    match between.split_once('\n') {
        None => between.is_empty() || matches!(between, "_" | "-" | " " | "'" | "’"),
        Some((end, begin)) => {
            end.trim().trim_end_matches('\\').is_empty()
                && begin.trim().trim_matches(['/', '!', '#', '-', '*']).is_empty()
        }
    }
}

//! Rust source as the checks see it: code without comments, string literals apart, test modules cut out.
//!
//! Plain text, no parser: it relies on `cargo fmt` for nothing but one statement a line.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

/// The simulator: another program in the same crate.
pub const SIMULATOR: &str = "src/bin/wechat-simulator/";
/// The measuring program: one more.
pub const BENCHES: &str = "benches/pipeline/";

/// A text file, by its path from the repository's root.
pub struct TextFile {
    pub path: String,
    pub text: String,
}

/// A Rust file without its tests.
pub struct Source {
    pub path: String,
    /// As it is written, with its tests.
    pub text: String,
    /// Byte for byte as long as the file; comments, the inside of strings, and test modules are blanks.
    pub code: String,
    pub strings: Vec<Literal>,
    /// Lines that are not a test's.
    pub lines: usize,
}

/// A string literal and where it begins.
pub struct Literal {
    pub at: usize,
    pub text: String,
}

impl Source {
    /// The line of a byte of [`Self::code`], from 1.
    pub fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }
}

/// Every text file of the repository, save git's own and what a build leaves.
pub fn text_files(root: &Path) -> Vec<TextFile> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if matches!(name.as_str(), "target" | ".git") || name.ends_with("__pycache__") {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                found.push(TextFile { path: name, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The Rust files of our programs among them, without tests: neither `#[cfg(test)]` items nor files that only they name.
pub fn sources(files: &[TextFile]) -> Vec<Source> {
    let mut test_files = BTreeSet::new();
    let mut sources = Vec::new();
    let ours = |path: &str| path.starts_with("src/") || path.starts_with(BENCHES);
    for file in files.iter().filter(|file| ours(&file.path) && file.path.ends_with(".rs")) {
        let (source, test_modules) = without_tests(file);
        test_files
            .extend(test_modules.iter().map(|module| format!("{}/{module}", folder_of_children(&file.path))));
        sources.push(source);
    }
    let is_test = |path: &str| {
        test_files
            .iter()
            .any(|test| path.strip_prefix(test).is_some_and(|rest| rest == ".rs" || rest.starts_with('/')))
    };
    sources.retain(|source| !is_test(&source.path));
    sources
}

/// The daemon's own.
pub fn daemon(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.path.starts_with("src/") && !source.path.starts_with(SIMULATOR))
}

/// Where a word stands whole.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| !code[..at].ends_with(part) && !code[at + word.len()..].starts_with(part))
}

/// Where a file's `mod x;` are looked for.
fn folder_of_children(path: &str) -> &str {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    match path.rsplit('/').next() {
        Some("mod.rs" | "lib.rs" | "main.rs") => folder,
        _ => path.trim_end_matches(".rs"),
    }
}

/// Cuts `#[cfg(test)]` items out; answers the names of those that are modules in files of their own.
fn without_tests(file: &TextFile) -> (Source, Vec<String>) {
    let (mut code, mut strings) = split(&file.text);
    let mut test_modules = Vec::new();
    let mut lines = code.lines().count();
    while let Some(start) = code.find("#[cfg(test)]") {
        let item = item_after(&code, start);
        test_modules.extend(module_in_file(&code[item.clone()]));
        let all = start..item.end;
        strings.retain(|literal| !all.contains(&literal.at));
        lines -= code[all.clone()].lines().count();
        let blanks = blank(&code[all.clone()]);
        code.replace_range(all, &blanks);
    }
    let (path, text) = (file.path.clone(), file.text.clone());
    (Source { path, text, code, strings, lines }, test_modules)
}

/// The item behind the attribute at `start`, further attributes passed over.
fn item_after(code: &str, start: usize) -> Range<usize> {
    let mut at = start;
    while code[at..].starts_with("#[") {
        at += matching(&code[at..], '[', ']').unwrap_or(code.len() - at);
        at += code[at..].len() - code[at..].trim_start().len();
    }
    let end = match code[at..].find([';', '{']) {
        Some(to) if code[at + to..].starts_with('{') => {
            at + to + matching(&code[at + to..], '{', '}').unwrap_or_default()
        }
        Some(to) => at + to + 1,
        None => code.len(),
    };
    at..end
}

fn module_in_file(item: &str) -> Option<String> {
    let name = item.strip_suffix(';')?.rsplit_once("mod ")?.1;
    Some(name.trim().to_owned())
}

/// How far it is to behind the bracket that closes the first one opened.
pub fn matching(code: &str, open: char, close: char) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return Some(at + 1);
            }
        }
    }
    None
}

/// What a stretch of source is.
enum Token {
    Code,
    Comment,
    Text,
}

/// Code, with blanks for all else, and the strings.
fn split(text: &str) -> (String, Vec<Literal>) {
    let (mut code, mut strings, mut at) = (String::new(), Vec::new(), 0);
    while at < text.len() {
        let (token, length) = token(&text[at..]);
        let stretch = &text[at..at + length];
        match token {
            Token::Code => code.push_str(stretch),
            Token::Comment => code.push_str(&blank(stretch)),
            Token::Text => {
                code.push_str(&blank(stretch));
                strings.push(Literal { at, text: stretch.to_owned() });
            }
        }
        at += length;
    }
    (code, strings)
}

fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

/// The first token of `rest`, which is not empty, and its length in bytes.
fn token(rest: &str) -> (Token, usize) {
    let first = rest.chars().next().unwrap();
    let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    match first {
        '/' if rest.starts_with("//") => (Token::Comment, rest.find('\n').unwrap_or(rest.len())),
        '/' if rest.starts_with("/*") => (Token::Comment, block_comment(rest)),
        '"' => (Token::Text, quoted(rest, '"')),
        '\'' if is_char_literal(rest) => (Token::Text, quoted(rest, '\'')),
        _ if matches!(&rest[..word], "r" | "br" | "cr") => match raw(rest, word) {
            Some(length) => (Token::Text, length),
            None => (Token::Code, word),
        },
        _ => (Token::Code, word.max(first.len_utf8())),
    }
}

/// They nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let tail = &rest[at..];
        let step = if tail.starts_with("/*") {
            depth += 1;
            2
        } else if tail.starts_with("*/") {
            depth -= 1;
            2
        } else {
            tail.chars().next().map_or(1, char::len_utf8)
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `'a'` or `'\n'`, not the lifetime `'a`.
fn is_char_literal(rest: &str) -> bool {
    let mut inside = rest.chars().skip(1);
    matches!((inside.next(), inside.next()), (Some('\\'), _) | (Some(_), Some('\'')))
}

/// A raw string behind a prefix of `prefix` bytes; `None` for a raw identifier, or a name that only looks like a prefix.
fn raw(rest: &str, prefix: usize) -> Option<usize> {
    let hashes = rest[prefix..].len() - rest[prefix..].trim_start_matches('#').len();
    let open = prefix + hashes + 1;
    rest[prefix + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len()))
}

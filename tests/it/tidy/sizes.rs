//! How long files and functions may get.

use super::source::{Source, matching, words};

/// More asks for a split; the median of good files is a third of it.
pub const MAX_FILE_LINES: usize = 300;
/// More does not fit a screen.
pub const MAX_FUNCTION_LINES: usize = 60;

pub fn long_files(sources: &[Source]) -> Vec<String> {
    let long = sources.iter().filter(|source| source.lines > MAX_FILE_LINES);
    long.map(|source| {
        format!("{}: {} lines, tests aside; {MAX_FILE_LINES} at most", source.path, source.lines)
    })
    .collect()
}

pub fn long_functions(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        for at in words(&source.code, "fn") {
            let lines = function(&source.code[at..]).lines().count();
            if lines > MAX_FUNCTION_LINES {
                let signature = source.code[at..].split(['(', '<']).next().unwrap_or_default();
                findings.push(format!(
                    "{}:{}: {signature} has {lines} lines; {MAX_FUNCTION_LINES} at most",
                    source.path,
                    source.line(at)
                ));
            }
        }
    }
    findings
}

/// From `fn` to the end of its body; nothing where it has none (a trait's method, a type).
fn function(code: &str) -> &str {
    let mut depth = 0;
    let body = code.char_indices().find(|(_, c)| {
        depth += i32::from(matches!(c, '(' | '[')) - i32::from(matches!(c, ')' | ']'));
        depth < 0 || (depth == 0 && matches!(c, '{' | ';' | ',' | '='))
    });
    match body {
        Some((at, '{')) => &code[..at + matching(&code[at..], '{', '}').unwrap_or_default()],
        _ => "",
    }
}

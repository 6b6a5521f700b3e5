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
    for function in sources.iter().flat_map(functions) {
        let Function { source, at, name, lines } = function;
        let place = format!("{}:{}: fn {name}", source.path, source.line(at));
        match lines {
            Some(lines) if lines > MAX_FUNCTION_LINES => {
                findings.push(format!("{place} has {lines} lines; {MAX_FUNCTION_LINES} at most"));
            }
            Some(_) => {}
            None => findings.push(format!("{place} has an end that this check does not find")),
        }
    }
    findings
}

/// A function as the source has it.
pub struct Function<'a> {
    pub source: &'a Source,
    pub at: usize,
    pub name: &'a str,
    /// From `fn` to the end of the body, or of the declaration where there is none.
    pub lines: Option<usize>,
}

/// All functions of a source: whatever `fn` names. (`fn(u8) -> u8` is a type, and names nothing.)
pub fn functions(source: &Source) -> impl Iterator<Item = Function<'_>> {
    words(&source.code, "fn").filter_map(|at| {
        let rest = source.code[at + 2..].trim_start();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = &rest[..end];
        (!name.is_empty()).then(|| Function { source, at, name, lines: lines(&source.code[at..]) })
    })
}

/// The lines of the function that begins here. Its signature ends at the first `{` or `;` outside all brackets; what stands
/// within them, or between commas of a `where`, may be anything.
fn lines(code: &str) -> Option<usize> {
    let (mut depth, mut before) = (0, ' ');
    let (end, _) = code.char_indices().find(|&(_, c)| {
        match c {
            '(' | '[' | '<' => depth += 1,
            ')' | ']' => depth -= 1,
            // Not of an arrow.
            '>' if before != '-' => depth -= 1,
            _ => {}
        }
        before = c;
        depth == 0 && matches!(c, '{' | ';')
    })?;
    let body = if code[end..].starts_with('{') { matching(&code[end..], '{', '}')? } else { 0 };
    Some(code[..end + body].lines().count())
}

//! How long files and functions may get.

use super::functions::functions;
use super::source::Source;

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
    for Source { path, text, .. } in sources {
        match functions(text) {
            Ok(functions) => {
                let long = functions.iter().filter(|it| !it.in_tests && it.lines > MAX_FUNCTION_LINES);
                findings.extend(long.map(|it| {
                    format!(
                        "{path}:{}: fn {} has {} lines; {MAX_FUNCTION_LINES} at most",
                        it.line, it.name, it.lines
                    )
                }));
            }
            Err(error) => findings.push(format!("{path}:{}: {error}", error.span().start().line)),
        }
    }
    findings
}

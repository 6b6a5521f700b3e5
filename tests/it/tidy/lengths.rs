//! How long functions and files are, as `tests/lengths` prints it: of several trees, measure by measure beside each other.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::functions::functions;
use super::source::{TextFile, sources};

/// The lengths of one tree, each with its place.
#[derive(Debug, Default)]
pub struct Lengths {
    /// Functions below `src/` that are no tests.
    functions: Vec<Length>,
    /// Files below `src/`, without the lines of tests.
    files: Vec<Length>,
    /// Functions of tests: below `tests/`, and below `src/` for tests only.
    test_functions: Vec<Length>,
}

type Length = (usize, String);
/// Which of them.
type Measure = fn(&Lengths) -> &[Length];

impl Lengths {
    pub fn of(files: &[TextFile]) -> Self {
        let mut lengths = Self::default();
        let sources = sources(files);
        let not_tests: BTreeSet<&str> = sources.iter().map(|source| source.path.as_str()).collect();
        let below_src = sources.iter().filter(|source| source.path.starts_with("src/"));
        lengths.files = below_src.map(|source| (source.lines, source.path.clone())).collect();
        let ours = |path: &str| ["src/", "tests/"].iter().any(|root| path.starts_with(root));
        for file in files.iter().filter(|file| file.path.ends_with(".rs") && ours(&file.path)) {
            let path = file.path.as_str();
            let found = functions(&file.text).unwrap_or_else(|error| panic!("{path}: {error}"));
            for function in found {
                let length = (function.lines, format!("{path}:{} {}", function.line, function.name));
                if function.in_tests || !not_tests.contains(path) {
                    lengths.test_functions.push(length);
                } else {
                    lengths.functions.push(length);
                }
            }
        }
        lengths
    }
}

/// A table of named trees.
pub fn report(trees: &[(String, Lengths)]) -> String {
    let measures: [(&str, Measure); 3] = [
        ("functions", |lengths| &lengths.functions),
        ("files", |lengths| &lengths.files),
        ("test functions", |lengths| &lengths.test_functions),
    ];
    let width = trees.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut table = format!("{:14}  {:width$}  number   mean    90%    max\n", "lines of", "");
    for (measure, of) in measures {
        for (at, (name, lengths)) in trees.iter().enumerate() {
            let label = if at == 0 { measure } else { "" };
            writeln!(table, "{label:14}  {name:width$}  {}", row(of(lengths))).unwrap();
        }
    }
    table
}

/// The 90th percentile is the least length that nine in ten do not exceed.
fn row(lengths: &[Length]) -> String {
    let mut sorted: Vec<&Length> = lengths.iter().collect();
    sorted.sort();
    let Some((longest, place)) = sorted.last() else { return format!("{:6}", 0) };
    let mean = sorted.iter().map(|(lines, _)| *lines as f64).sum::<f64>() / sorted.len() as f64;
    let (ninetieth, _) = sorted[(sorted.len() * 9).div_ceil(10) - 1];
    format!("{:6} {mean:6.1} {ninetieth:6} {longest:6}  {place}", sorted.len())
}

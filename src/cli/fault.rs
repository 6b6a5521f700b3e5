//! How an error is shown to an operator.

use super::output::note;

/// Prints why the program fails.
pub fn tell(error: &anyhow::Error) {
    note!("error: {}", in_one_line(error));
}

/// The error and its causes in one line, without repetition: some error texts already contain their cause.
fn in_one_line(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |line, cause| {
        let cause = cause.to_string();
        if line.contains(&cause) { line } else { format!("{line}: {cause}") }
    })
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn a_cause_is_named_once_and_none_is_left_out() {
        let once = anyhow!("no such file").context("cannot read x: no such file").context("cannot publish");
        assert_eq!(in_one_line(&once), "cannot publish: cannot read x: no such file");
        let each = Err::<(), _>(anyhow!("c")).context("b").context("a").unwrap_err();
        assert_eq!(in_one_line(&each), "a: b: c");
    }
}

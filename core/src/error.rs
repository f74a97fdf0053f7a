//! Error texts: the form in which every crate writes an error into a log line or a condition.

use crate::text::Text;
use std::error::Error;

/// An error with its causes in one line, outermost first, joined by `: `. Servers' own words stand
/// in it, so the line is cleaned: it goes into logs, conditions and columns.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    Text::ErrorText.clean(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the step failed")]
    struct Step(#[source] Cause);

    #[derive(Debug, thiserror::Error)]
    #[error("the call failed")]
    struct Cause(#[source] std::fmt::Error);

    #[test]
    fn every_cause_is_named_once_the_nearest_first() {
        let cause = std::fmt::Error;
        assert_eq!(
            error_chain(&Step(Cause(cause))),
            format!("the step failed: the call failed: {cause}")
        );
        assert_eq!(error_chain(&cause), cause.to_string());
    }
}

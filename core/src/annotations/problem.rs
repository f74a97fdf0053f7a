//! A problem with one annotation, as a message its author can act on.

use std::fmt;

/// An error or a warning about one annotation. `Display` writes one sentence in which the author's
/// text is escaped and shortened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key as the pod spells it; the documented spelling if it is missing.
    pub key: String,
    /// The value as the pod has it; empty if it is missing.
    pub value: String,
    /// The fault, as the predicate of a sentence about the key.
    pub why: String,
    /// Allowed values; empty if there is nothing to add.
    pub allowed: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape_for_message(&self.key))?;
        if !self.value.is_empty() {
            write!(f, " \"{}\"", escape_for_message(&self.value))?;
        }
        write!(f, " {}", self.why)?;
        if !self.allowed.is_empty() {
            write!(f, " (allowed: {})", self.allowed)?;
        }
        Ok(())
    }
}

/// Makes text from a pod's author fit for a message: control characters escaped, length limited.
pub(super) fn escape_for_message(text: &str) -> String {
    /// In characters; names of cloud resources fit whole.
    const LONGEST: usize = 64;
    let mut short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

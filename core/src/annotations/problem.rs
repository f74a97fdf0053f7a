//! One thing that is wrong with a pod's annotations, said so that its author can mend it.

use std::fmt;

/// What is wrong, or odd, with one annotation. `Display` makes it one sentence, safe to show
/// whatever the pod's author wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key as the pod spells it; the documented spelling if it is missing.
    pub key: String,
    /// The value as the pod has it; empty if it is missing.
    pub value: String,
    /// What is wrong with it.
    pub why: String,
    /// What is allowed instead; empty if there is nothing to add.
    pub allowed: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.key))?;
        if !self.value.is_empty() {
            write!(f, " \"{}\"", shown(&self.value))?;
        }
        write!(f, " {}", self.why)?;
        if !self.allowed.is_empty() {
            write!(f, " (allowed: {})", self.allowed)?;
        }
        Ok(())
    }
}

/// A text from a pod's author as it may stand in a message: control characters escaped, and no
/// longer than a line.
pub(super) fn shown(text: &str) -> String {
    /// Characters; names of cloud resources fit whole.
    const LONGEST: usize = 64;
    let mut short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

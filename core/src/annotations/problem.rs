//! A problem with one annotation, as a message its author can act on.

use crate::text::{Text, TextFault, escape_for_message};
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

impl Problem {
    /// The problem of a text that breaks its rule, under the key of the list of texts.
    pub fn from_fault(text: Text, value: &str, fault: TextFault) -> Self {
        let TextFault { why, allowed } = fault;
        Self { key: text.key().to_owned(), value: value.to_owned(), why, allowed }
    }
}

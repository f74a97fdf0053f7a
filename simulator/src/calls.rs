//! Counts of each action's calls, and of its refusals by code.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counts since the start or the last reset.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Calls {
    /// Calls that came in, refused ones included.
    calls: BTreeMap<String, u64>,
    /// Refusals by action and code.
    errors: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Calls {
    /// Counts a call that arrived.
    pub fn count_call(&mut self, action: &str) {
        *self.calls.entry(action.to_owned()).or_default() += 1;
    }

    /// Counts a refusal by action and code.
    pub fn count_refusal(&mut self, action: &str, code: &str) {
        *self.errors.entry(action.to_owned()).or_default().entry(code.to_owned()).or_default() += 1;
    }
}

//! A position in the configuration file, and the findings at it.

use crate::spelling::nearest_name;
use crate::text::{Text, clean_text};
use serde_json::Value;
use std::fmt;
use std::ops::RangeInclusive;

/// An error or a warning about one place in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The place, such as `networkController.natGwPool[0].natgwId`.
    pub path: String,
    /// The fault, as the predicate of a sentence about the path.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.message)
    }
}

/// The errors and warnings collected so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
}

impl Findings {
    pub(super) fn add_error(&mut self, at: &Cursor, what: impl Into<String>) {
        self.errors.push(Finding { path: at.display_path(), message: what.into() });
    }

    pub(super) fn add_warning(&mut self, at: &Cursor, what: impl Into<String>) {
        self.warnings.push(Finding { path: at.display_path(), message: what.into() });
    }
}

/// A position in the file: its path and value. Absent and `null` are the same, as in Go.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    path: String,
    value: Option<&'a Value>,
}

impl<'a> Cursor<'a> {
    pub(super) fn at_root(value: &'a Value) -> Self {
        Self { path: String::new(), value: Some(value).filter(|value| !value.is_null()) }
    }

    pub(super) fn at_key(&self, key: &str) -> Self {
        let path =
            if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self {
            path,
            value: self.value.and_then(|value| value.get(key)).filter(|value| !value.is_null()),
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        self.value.is_none()
    }

    fn display_path(&self) -> String {
        if self.path.is_empty() { "file".to_owned() } else { self.path.clone() }
    }

    /// True under `credential`, where no value may be shown.
    fn is_secret(&self) -> bool {
        self.path.starts_with("credential")
    }

    fn display_value(&self) -> String {
        /// In characters; IDs and addresses fit whole.
        const LONGEST: usize = 65;
        let Some(value) = self.value.filter(|_| !self.is_secret()) else {
            return "its value".to_owned();
        };
        clean_text(&value.to_string(), LONGEST)
    }

    /// Checks that this is a mapping with known keys. A key close to a known one is an error, any
    /// other unknown key a warning.
    pub(super) fn check_keys(&self, known: &[&str], tolerated: &[&str], findings: &mut Findings) {
        let Some(value) = self.value else { return };
        let Some(mapping) = value.as_object() else {
            findings.add_error(self, format!("must be a mapping of {}", known.join(", ")));
            return;
        };
        for key in mapping.keys().filter(|key| !known.contains(&key.as_str())) {
            let meant = nearest_name(key, known.iter().copied())
                .filter(|_| !tolerated.contains(&key.as_str()));
            match meant {
                // Not shown under `credential`: a misplaced secret may be the key itself.
                Some(meant) if self.is_secret() => {
                    findings.add_error(self, format!("has a misspelt key; did you mean {meant}?"));
                }
                None if self.is_secret() => {
                    findings.add_warning(self, "has an unknown key, which has no effect");
                }
                Some(meant) => findings.add_error(
                    &self.at_unknown(key),
                    format!("is not known; did you mean {meant}?"),
                ),
                None => {
                    findings.add_warning(&self.at_unknown(key), "is not known and has no effect");
                }
            }
        }
    }

    /// The path of an unknown key, escaped and cut to a readable length.
    fn at_unknown(&self, key: &str) -> Self {
        self.at_key(&Text::OtherConfigKey.clean(key))
    }

    pub(super) fn read_string(&self, findings: &mut Findings) -> Option<&'a str> {
        let value = self.value?;
        if value.as_str().is_none() {
            findings.add_error(
                self,
                format!("is {}: must be a string; quote it", self.display_value()),
            );
        }
        value.as_str()
    }

    pub(super) fn read_bool(&self, findings: &mut Findings) -> Option<bool> {
        let value = self.value?;
        if value.as_bool().is_none() {
            findings.add_error(self, format!("is {}: must be true or false", self.display_value()));
        }
        value.as_bool()
    }

    pub(super) fn read_number(
        &self,
        range: RangeInclusive<u64>,
        findings: &mut Findings,
    ) -> Option<u64> {
        let number = self.value?.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            findings.add_error(
                self,
                format!(
                    "is {}: must be a whole number from {} to {}",
                    self.display_value(),
                    range.start(),
                    range.end()
                ),
            );
        }
        number
    }

    /// A required text that `is_right` accepts; `allowed` describes it in the error.
    pub(super) fn read_matching(
        &self,
        is_right: impl Fn(&str) -> bool,
        allowed: &str,
        findings: &mut Findings,
    ) -> Option<&'a str> {
        if self.is_absent() {
            findings.add_error(self, format!("is required: {allowed}"));
        }
        let text = self.read_string(findings)?;
        if !is_right(text) {
            findings.add_error(self, format!("is {}: must be {allowed}", self.display_value()));
            return None;
        }
        Some(text)
    }

    /// A text from a closed list; none if absent or wrong.
    pub(super) fn read_choice<'w>(
        &self,
        known: &[&'w str],
        findings: &mut Findings,
    ) -> Option<&'w str> {
        let text = self.read_string(findings)?;
        let word = known.iter().copied().find(|word| *word == text);
        if word.is_none() {
            let meant = nearest_name(text, known.iter().copied())
                .map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
            findings.add_error(
                self,
                format!("is {}: must be one of {}{meant}", self.display_value(), known.join(", ")),
            );
        }
        word
    }

    /// The elements of a list; empty if absent.
    pub(super) fn list_items(&self, findings: &mut Findings) -> Vec<Self> {
        let Some(value) = self.value else { return Vec::new() };
        let Some(items) = value.as_array() else {
            findings.add_error(self, "must be a list");
            return Vec::new();
        };
        let item = |(i, value)| Self { path: format!("{}[{i}]", self.path), value: Some(value) };
        items.iter().enumerate().map(item).collect()
    }

    /// The elements of a list that are in a closed list of words, with their positions.
    pub(super) fn read_choices<'w>(
        &self,
        known: &[&'w str],
        findings: &mut Findings,
    ) -> Vec<(Self, &'w str)> {
        let items = self.list_items(findings);
        items
            .into_iter()
            .filter_map(|item| item.read_choice(known, findings).map(|word| (item, word)))
            .collect()
    }

    /// The elements of a list that `is_right` accepts, with their positions.
    pub(super) fn read_matching_items(
        &self,
        is_right: impl Fn(&str) -> bool,
        allowed: &str,
        findings: &mut Findings,
    ) -> Vec<(Self, &'a str)> {
        let items = self.list_items(findings);
        items
            .into_iter()
            .filter_map(|item| {
                item.read_matching(&is_right, allowed, findings).map(|text| (item, text))
            })
            .collect()
    }

    /// The entries of a mapping from string to string.
    pub(super) fn read_string_map(&self, findings: &mut Findings) -> Vec<(&'a str, &'a str)> {
        let Some(value) = self.value else { return Vec::new() };
        let Some(mapping) = value.as_object() else {
            findings.add_error(self, "must be a mapping of strings");
            return Vec::new();
        };
        mapping
            .keys()
            .filter_map(|key| {
                self.at_key(key).read_string(findings).map(|text| (key.as_str(), text))
            })
            .collect()
    }
}

//! Collects the annotations that Waygate reads, and the problems and warnings found in them.

use super::keys::{Key, WAYGATE_PREFIX, is_allocated_key};
use super::problem::Problem;
use super::values::{self, ValueError};
use crate::request::Kind;
use crate::text::{TextFault, escape_for_message};
use std::collections::BTreeMap;

/// The recognized annotations of one pod: for each key, the spelling found and the value.
pub(super) struct Reader<'a> {
    found: BTreeMap<Key, (&'a str, &'a str)>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn from_annotations(annotations: &'a BTreeMap<String, String>) -> Self {
        let mut reader =
            Self { found: BTreeMap::new(), problems: Vec::new(), warnings: Vec::new() };
        for (spelling, value) in annotations {
            match Key::from_annotation(spelling) {
                Some(key) => reader.collect_annotation(key, spelling, value),
                None => reader.warn_if_misspelt(spelling, value),
            }
        }
        // Only now: an empty value still has to be compared with those of other spellings.
        reader.drop_empty_values();
        reader
    }

    fn collect_annotation(&mut self, key: Key, spelling: &'a str, value: &'a str) {
        let (first, first_value) = *self.found.entry(key).or_insert((spelling, value));
        if first_value != value {
            let why = format!(
                "differs from {first} \"{}\", which is the same setting",
                escape_for_message(first_value)
            );
            self.problems.push(new_problem(spelling, value, &why, "one value in every spelling"));
        }
        if let Err(TextFault { why, allowed }) = key.check(value) {
            self.problems.push(new_problem(spelling, value, &why, &allowed));
        }
    }

    /// Drops empty values, which charts render for unset settings, and warns of each. Kept are the
    /// keys for which empty means on, and `pod-with-eip`, where empty is an error.
    fn drop_empty_values(&mut self) {
        let Self { found, warnings, .. } = self;
        found.retain(|key, (spelling, value)| {
            let keep =
                !value.is_empty() || matches!(key, Key::PodDnat | Key::Fixed | Key::PodWithEip);
            if !keep {
                warnings.push(new_problem(spelling, value, "is empty and treated as not set", ""));
            }
            keep
        });
    }

    fn warn_if_misspelt(&mut self, spelling: &str, value: &str) {
        if is_allocated_key(spelling) || spelling == super::POD_LABEL {
            return;
        }
        if let Some(key) = Key::closest_to(spelling) {
            let why = format!("is an unknown key and has no effect; did you mean {}?", key.key());
            self.warnings.push(new_problem(spelling, value, &why, ""));
        } else if spelling.starts_with(WAYGATE_PREFIX) {
            self.warnings.push(new_problem(
                spelling,
                value,
                "is an unknown key and has no effect",
                "",
            ));
        }
    }

    pub(super) fn has_key(&self, key: Key) -> bool {
        self.found.contains_key(&key)
    }

    /// The value converted by `parse`; none if the key is absent. A value that `parse` refuses is
    /// recorded as a problem.
    pub(super) fn parse_value<T>(
        &mut self,
        key: Key,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Option<T> {
        let (spelling, value) = *self.found.get(&key)?;
        // The problem was recorded when the annotation was collected.
        key.check(value).ok()?;
        match parse(value) {
            Ok(read) => Some(read),
            Err(ValueError { why, allowed }) => {
                self.problems.push(new_problem(spelling, value, &why, &allowed));
                None
            }
        }
    }

    /// True if the pod requests an address of this kind. An unreadable switch counts as on, so that
    /// all problems beside it are reported in the same pass.
    pub(super) fn requests_kind(&self, kind: Kind) -> bool {
        match kind {
            Kind::Dnat => self.switched_on_by(Key::PodDnat),
            Kind::Eip => {
                self.switched_on_by(Key::PodWithEip) || self.switched_on_by(Key::PodEipInstanceId)
            }
        }
    }

    /// True if this one key switches an address on.
    pub(super) fn switched_on_by(&self, key: Key) -> bool {
        self.found.get(&key).is_some_and(|(_, value)| match key {
            Key::PodDnat => values::parse_flag(value).unwrap_or(true),
            Key::PodWithEip => values::parse_bool(value).unwrap_or(true),
            _ => key.is_switch(),
        })
    }

    pub(super) fn add_problem(&mut self, key: Key, why: &str, allowed: &str) {
        let problem = self.problem_at(key, why, allowed);
        self.problems.push(problem);
    }

    /// Adds a problem with something else than an annotation.
    pub(super) fn add_other_problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn add_warning(&mut self, key: Key, why: &str) {
        let warning = self.problem_at(key, why, "");
        self.warnings.push(warning);
    }

    fn problem_at(&self, key: Key, why: &str, allowed: &str) -> Problem {
        match self.found.get(&key) {
            Some((spelling, value)) => new_problem(spelling, value, why, allowed),
            None => new_problem(key.key(), "", why, allowed),
        }
    }

    /// The problems and the warnings, in this order.
    pub(super) fn into_findings(self) -> (Vec<Problem>, Vec<Problem>) {
        (self.problems, self.warnings)
    }
}

fn new_problem(key: &str, value: &str, why: &str, allowed: &str) -> Problem {
    Problem {
        key: key.to_owned(),
        value: value.to_owned(),
        why: why.to_owned(),
        allowed: allowed.to_owned(),
    }
}

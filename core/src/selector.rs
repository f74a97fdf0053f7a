//! Kubernetes' label selector, evaluated locally, so that admission registrations, the policy and
//! the worker select the same namespaces.

use std::collections::{BTreeMap, BTreeSet};

/// Selects objects by labels; all requirements must hold. The empty selector selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// Conditions on single labels, all required.
    pub requirements: Vec<Requirement>,
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Key of the label.
    pub key: String,
    /// Test of the label's value or presence.
    pub operator: Operator,
}

/// Test of a label's value or presence, with the names of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Present, with one of these values.
    In(BTreeSet<String>),
    /// Absent, or with another value.
    NotIn(BTreeSet<String>),
    /// Present, with any value.
    Exists,
    /// Absent, with no value at all.
    DoesNotExist,
}

impl LabelSelector {
    /// True if an object with these labels is selected.
    pub fn matches_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.matches_value(labels.get(&requirement.key)))
    }
}

impl Requirement {
    fn matches_value(&self, value: Option<&String>) -> bool {
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(operator: Operator, labels: &[(&str, &str)]) -> bool {
        let selector =
            LabelSelector { requirements: vec![Requirement { key: "team".into(), operator }] };
        selector.matches_labels(
            &labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        )
    }

    #[test]
    fn every_operator_means_what_kubernetes_means() {
        let games = || BTreeSet::from(["games".to_owned()]);
        for (operator, absent, same, other) in [
            (Operator::In(games()), false, true, false),
            (Operator::NotIn(games()), true, false, true),
            (Operator::Exists, false, true, true),
            (Operator::DoesNotExist, true, false, false),
        ] {
            let decided = [&[][..], &[("team", "games")], &[("team", "web")]]
                .map(|labels| selects(operator.clone(), labels));
            assert_eq!(decided, [absent, same, other], "{operator:?}");
        }
    }

    #[test]
    fn the_empty_selector_selects_everything() {
        assert!(LabelSelector::default().matches_labels(&BTreeMap::new()));
    }
}

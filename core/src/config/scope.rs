//! The `serve` section: a selector of the namespaces to serve.

use super::cursor::{Cursor, Findings};
use crate::selector::{LabelSelector, Operator, Requirement};
use crate::text::{Text, describe_fault};
use std::collections::BTreeSet;

const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

pub(super) fn read_selector(cursor: &Cursor, findings: &mut Findings) -> LabelSelector {
    cursor.check_keys(&["namespaceSelector"], &[], findings);
    let selector = cursor.at_key("namespaceSelector");
    selector.check_keys(&["matchLabels", "matchExpressions"], &[], findings);
    let equal = |(key, value): (&str, &str)| Requirement {
        key: key.to_owned(),
        operator: Operator::In(BTreeSet::from([value.to_owned()])),
    };
    let labels = selector.at_key("matchLabels");
    let pairs = labels.read_string_map(findings);
    for (key, value) in &pairs {
        for (text, value) in [(Text::SelectorKey, *key), (Text::SelectorValue, *value)] {
            if let Err(fault) = text.check(value) {
                findings.add_error(
                    &labels,
                    format!("has {}", describe_fault(text.key(), value, &fault)),
                );
            }
        }
    }
    let mut requirements: Vec<Requirement> = pairs.into_iter().map(equal).collect();
    for expression in selector.at_key("matchExpressions").list_items(findings) {
        requirements.extend(read_requirement(&expression, findings));
    }
    LabelSelector { requirements }
}

fn read_requirement(cursor: &Cursor, findings: &mut Findings) -> Option<Requirement> {
    cursor.check_keys(&["key", "operator", "values"], &[], findings);
    let key = cursor.at_key("key").read_matching(
        |text| Text::SelectorKey.allows(text),
        "a label's key",
        findings,
    );
    let operator = cursor.at_key("operator");
    if operator.is_absent() {
        findings.add_error(&operator, format!("is required: one of {}", OPERATORS.join(", ")));
    }
    let operator = operator.read_choice(&OPERATORS, findings);
    let listed = cursor.at_key("values");
    let values: BTreeSet<String> = listed
        .read_matching_items(|text| Text::SelectorValue.allows(text), "a label's value", findings)
        .into_iter()
        .map(|(_, value)| value.to_owned())
        .collect();
    let (key, operator) = (key?.to_owned(), operator?);
    let takes_values = matches!(operator, "In" | "NotIn");
    if takes_values == values.is_empty() {
        let what = if takes_values { "must name at least one value" } else { "must be empty" };
        findings.add_error(&listed, format!("{what} with operator {operator}"));
    }
    let operator = match operator {
        "In" => Operator::In(values),
        "NotIn" => Operator::NotIn(values),
        "Exists" => Operator::Exists,
        _ => Operator::DoesNotExist,
    };
    Some(Requirement { key, operator })
}

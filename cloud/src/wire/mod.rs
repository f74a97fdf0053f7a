//! The API's answers in their JSON form: PascalCase, lists in wrappers of irregular names, numbers
//! that are sometimes strings.
//!
//! A missing optional field reads as empty. A missing required field, such as the requested list,
//! makes the answer unreadable: an unreadable answer must not look like an empty one.

pub(crate) mod eip;
pub(crate) mod eni;
pub(crate) mod error;
pub(crate) mod nat;
pub(crate) mod network;
pub(crate) mod security;
pub(crate) mod sts;
pub(crate) mod tags;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::net::Ipv4Addr;
use waygate_core::text::{Text, describe_fault};

/// An answer without content beyond its request ID.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Plain {
    #[serde(default, deserialize_with = "scalar_text")]
    pub(crate) request_id: String,
}

/// Reads a scalar in any form (`"5"`, `5`, `true`) as text, `null` as the empty text. Every text of
/// an answer comes through here: what no text may hold is escaped and what is too long is cut, so
/// that it can be stored and shown. IDs are checked besides.
pub(crate) fn scalar_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(String::new()),
        Value::String(text) if Text::EipText.allows(&text) => Ok(text),
        Value::String(text) => Ok(Text::EipText.clean(&text)),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Array(_) | Value::Object(_) => {
            Err(D::Error::custom("expected a scalar, found a list or an object"))
        }
    }
}

/// Reads a number, plain or as a string; `null` and the empty string as zero.
pub(crate) fn scalar_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = scalar_text(deserializer)?;
    if text.is_empty() {
        Ok(0)
    } else {
        text.parse().map_err(|_| D::Error::custom(format!("{text:.40?} is not a number")))
    }
}

/// Reads a list, plain or as the only member of an object, under any name; `null` as empty.
pub(crate) fn wrapped_list<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let items = match Value::deserialize(deserializer)? {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        Value::Object(wrapper) => match wrapper.into_iter().next() {
            None | Some((_, Value::Null)) => Vec::new(),
            Some((_, Value::Array(items))) => items,
            Some((name, _)) => return Err(D::Error::custom(format!("{name:.40?} is not a list"))),
        },
        _ => return Err(D::Error::custom("expected a list, found a scalar")),
    };
    items.into_iter().map(|item| serde_json::from_value(item).map_err(D::Error::custom)).collect()
}

/// Reads a list of scalars as text.
pub(crate) fn text_list<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Word(#[serde(deserialize_with = "scalar_text")] String);
    Ok(wrapped_list::<D, Word>(deserializer)?.into_iter().map(|word| word.0).collect())
}

/// Parses a required IPv4 address.
pub(crate) fn parse_address(field: &str, text: &str) -> Result<Ipv4Addr, String> {
    text.trim().parse().map_err(|_| format!("{field} is {text:.40?}, not an IPv4 address"))
}

/// Parses an optional IPv4 address, empty for none.
pub(crate) fn parse_optional_address(field: &str, text: &str) -> Result<Option<Ipv4Addr>, String> {
    if text.trim().is_empty() { Ok(None) } else { parse_address(field, text).map(Some) }
}

/// A required text; an empty one is an error.
pub(crate) fn required_text(field: &str, text: String) -> Result<String, String> {
    if text.is_empty() { Err(format!("{field} is missing")) } else { Ok(text) }
}

/// A required ID; an empty one is an error, as is a text that no resource has for an ID.
pub(crate) fn required_id(field: &str, id: String) -> Result<String, String> {
    optional_id(field, required_text(field, id)?)
}

/// An ID, or the empty text.
pub(crate) fn optional_id(field: &str, id: String) -> Result<String, String> {
    // The rule is the same for all IDs of the cloud.
    match Text::AllocationId.check(&id) {
        Err(fault) if !id.is_empty() => Err(describe_fault(field, &id, &fault)),
        Ok(()) | Err(_) => Ok(id),
    }
}

/// The text, or `None` if empty.
pub(crate) fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A page of a list whose pages are numbered.
pub(crate) trait Page: DeserializeOwned + Send {
    /// The fact read from each item.
    type Item: Send;
    /// Number of items over all pages.
    fn total_count(&self) -> u32;
    /// Converts the items of this page; fails where one of them cannot be read.
    fn into_page_items(self) -> Result<Vec<Self::Item>, String>;
}

/// A page of a list that continues at a token.
pub(crate) trait Chain: DeserializeOwned + Send {
    /// The fact read from each item.
    type Item: Send;
    /// Takes the token of the next page, `None` on the last. Called before the items are converted.
    fn take_next_token(&mut self) -> Option<String>;
    /// Converts the items of this page; fails where one of them cannot be read.
    fn into_chain_items(self) -> Result<Vec<Self::Item>, String>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_eip(field: &str, value: &str) -> Result<waygate_core::cloud_facts::Eip, String> {
        let mut eip =
            json!({"AllocationId": "eip-1", "IpAddress": "203.0.113.1", "Status": "InUse"});
        eip[field] = json!(value);
        let page = json!({"TotalCount": 1, "EipAddresses": {"EipAddress": [eip]}});
        let page: eip::Eips = serde_json::from_value(page).map_err(|error| error.to_string())?;
        Ok(page.into_page_items()?.remove(0))
    }

    #[test]
    fn a_free_text_of_the_cloud_is_cleaned_and_an_id_that_is_none_is_named() {
        assert_eq!(read_eip("Name", "a\0b").unwrap().name, r"a\0b");
        assert_eq!(read_eip("Description", "ä\u{202e}b").unwrap().description, r"ä\u{202e}b");
        for (field, value) in [("AllocationId", "eip-\0"), ("BandwidthPackageId", "cbwp 1")] {
            let said = read_eip(field, value).unwrap_err();
            assert!(said.contains(field) && !said.contains(char::is_control), "{said}");
        }
        assert_eq!(read_eip("BandwidthPackageId", "").unwrap().bandwidth_package, None);
    }
}

//! The API's answers as they come: PascalCase, lists in wrappers of irregular names, numbers that
//! are sometimes strings.
//!
//! What is missing but optional reads as empty. What is missing and decides something, such as the
//! list that was asked for, makes the answer unreadable: an answer that cannot be read must not
//! look like an empty one.

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

/// An answer of which nothing but its coming matters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Plain {
    #[serde(default, deserialize_with = "text")]
    pub(crate) request_id: String,
}

/// A scalar as text, however it is written: `"5"`, `5`, `true`; nothing as the empty text.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Array(_) | Value::Object(_) => {
            Err(D::Error::custom("a list or an object where a word should be"))
        }
    }
}

/// A number, however it is written; nothing as zero.
pub(crate) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = text(deserializer)?;
    if text.is_empty() {
        Ok(0)
    } else {
        text.parse().map_err(|_| D::Error::custom(format!("{text:.40?} is no count")))
    }
}

/// A list: plain, or in an object with one member, whatever that is called.
pub(crate) fn list<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let items = match Value::deserialize(deserializer)? {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        Value::Object(wrapper) => match wrapper.into_iter().next() {
            None | Some((_, Value::Null)) => Vec::new(),
            Some((_, Value::Array(items))) => items,
            Some((name, _)) => return Err(D::Error::custom(format!("{name:.40} is not a list"))),
        },
        _ => return Err(D::Error::custom("a word where a list should be")),
    };
    items.into_iter().map(|item| serde_json::from_value(item).map_err(D::Error::custom)).collect()
}

/// A list of words.
pub(crate) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Word(#[serde(deserialize_with = "text")] String);
    Ok(list::<D, Word>(deserializer)?.into_iter().map(|word| word.0).collect())
}

/// An address that must be there.
pub(crate) fn address(field: &str, text: &str) -> Result<Ipv4Addr, String> {
    text.trim().parse().map_err(|_| format!("{field} is {text:.40?}, not an IPv4 address"))
}

/// An address, where there is one.
pub(crate) fn maybe_address(field: &str, text: &str) -> Result<Option<Ipv4Addr>, String> {
    if text.trim().is_empty() { Ok(None) } else { address(field, text).map(Some) }
}

/// A word that must be there.
pub(crate) fn required(field: &str, text: String) -> Result<String, String> {
    if text.is_empty() { Err(format!("{field} is missing")) } else { Ok(text) }
}

/// The word, unless it is empty.
pub(crate) fn present(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// One page of a numbered list.
pub(crate) trait Page: DeserializeOwned + Send {
    /// What is listed, as the callers see it.
    type Item: Send;
    /// How many there are over all pages.
    fn total(&self) -> u32;
    /// This page's items.
    fn items(self) -> Result<Vec<Self::Item>, String>;
}

/// One page of a list that goes on at a token.
pub(crate) trait Chain: DeserializeOwned + Send {
    /// What is listed, as the callers see it.
    type Item: Send;
    /// Where the next page begins; none at the end. Taken before the items.
    fn next(&mut self) -> Option<String>;
    /// This page's items.
    fn items(self) -> Result<Vec<Self::Item>, String>;
}

//! Parameters of an RPC call: flattened, sorted and percent-encoded once.
//!
//! The canonical query itself is sent, so the signed text and the sent text cannot differ.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

/// The parameters of one call, sorted by key as the signature requires.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Params(BTreeMap<String, String>);

impl Params {
    /// Adds `key=value`; an empty value is sent as `key=`.
    pub(crate) fn with(mut self, key: impl Into<String>, value: impl Display) -> Self {
        self.0.insert(key.into(), value.to_string());
        self
    }

    /// Adds `key=value` where there is a value; an unset parameter is not sent.
    pub(crate) fn with_optional(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds a list as `key.1=…&key.2=…`, counted from one.
    pub(crate) fn with_list(
        self,
        key: &str,
        values: impl IntoIterator<Item = impl Display>,
    ) -> Self {
        values
            .into_iter()
            .enumerate()
            .fold(self, |params, (index, value)| params.with(format!("{key}.{}", index + 1), value))
    }

    /// Adds tags as `Tag.1.Key=…&Tag.1.Value=…`, counted from one.
    pub(crate) fn with_tags<'a>(
        self,
        tags: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Self {
        tags.into_iter().enumerate().fold(self, |params, (index, (key, value))| {
            let number = index + 1;
            params.with(format!("Tag.{number}.Key"), key).with(format!("Tag.{number}.Value"), value)
        })
    }

    /// The query string: keys sorted bytewise, keys and values encoded by RFC 3986.
    pub(crate) fn canonical_query(&self) -> String {
        let mut query = String::new();
        for (key, value) in &self.0 {
            if !query.is_empty() {
                query.push('&');
            }
            percent_encode(&mut query, key);
            query.push('=');
            percent_encode(&mut query, value);
        }
        query
    }
}

/// Appends `text` encoded by RFC 3986: every byte but `A-Za-z0-9-_.~` as `%XX`.
fn percent_encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            // Writing to a String cannot fail.
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_sorted_by_bytes_and_values_encoded() {
        let params = Params::default()
            .with("b", "a b*/+~")
            .with("a", "")
            .with("B", "ö")
            .with_optional("c", None::<&str>);
        assert_eq!(params.canonical_query(), "B=%C3%B6&a=&b=a%20b%2A%2F%2B~");
    }

    #[test]
    fn lists_and_tags_count_from_one() {
        let tags = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let params = Params::default().with_list("Id", ["x", "y"]).with_tags(&tags);
        assert_eq!(params.canonical_query(), "Id.1=x&Id.2=y&Tag.1.Key=k&Tag.1.Value=v");
    }

    proptest! {
        #[test]
        fn a_server_decodes_what_was_meant(value in ".*") {
            let query = Params::default().with("k", &value).canonical_query();
            let decoded: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
            prop_assert_eq!(&decoded[0].1, &value);
        }

        #[test]
        fn a_url_carries_the_query_unchanged(value in ".*") {
            let query = Params::default().with("k", &value).canonical_query();
            let mut url = url::Url::parse("http://localhost/").unwrap();
            url.set_query(Some(&query));
            prop_assert_eq!(url.query(), Some(query.as_str()));
        }
    }
}

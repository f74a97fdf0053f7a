//! Flattened RPC parameters: `Tag.1.Key=…`, `NetworkInterfaceId.2=…`, page numbers and booleans in
//! any case.
//!
//! Percent-encoding lives here too, because both signatures sort and encode the same pairs.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde_json::{Value, json};

use crate::refusal::Refusal;

/// The parameters of one call, query and form together, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// Parameters out of decoded pairs; the last of two equal names wins.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// The value, unless absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value, or an empty string.
    pub fn get_or_empty(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// The value, or `MissingParameter`.
    pub fn get_required(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::missing_parameter(name))
    }

    /// `Name.1`, `Name.2`, … in their order.
    pub fn get_list(&self, name: &str) -> Vec<&str> {
        (1..)
            .map_while(|index| self.0.get(&format!("{name}.{index}")))
            .map(String::as_str)
            .collect()
    }

    /// True if `name` or any of `name.1`, `name.1.Key` was sent.
    pub fn contains_name(&self, name: &str) -> bool {
        let start = format!("{name}.");
        self.get(name).is_some()
            || self.0.range(start.clone()..).next().is_some_and(|(key, _)| key.starts_with(&start))
    }

    /// A comma-separated list.
    pub fn get_comma_list(&self, name: &str) -> Option<Vec<&str>> {
        self.get(name).map(|value| value.split(',').map(str::trim).collect())
    }

    /// `Tag.N.Key` and `Tag.N.Value`; a missing value is an absent one.
    pub fn get_tags(&self) -> Vec<(&str, Option<&str>)> {
        (1..)
            .map_while(|index| {
                let key = self.0.get(&format!("Tag.{index}.Key"))?;
                Some((key.as_str(), self.0.get(&format!("Tag.{index}.Value")).map(String::as_str)))
            })
            .collect()
    }

    /// A boolean as any SDK prints it; absent is false.
    pub fn get_bool(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// A whole number, if sent.
    pub fn get_number(&self, name: &str) -> Result<Option<u32>, Refusal> {
        self.get(name)
            .map(|value| value.parse().map_err(|_| Refusal::invalid_parameter(name)))
            .transpose()
    }

    /// An IPv4 address, if sent; a malformed one is refused with `code`.
    pub fn get_address(&self, name: &str, code: &str) -> Result<Option<Ipv4Addr>, Refusal> {
        self.get(name)
            .map(|value| {
                value.parse().map_err(|_| {
                    Refusal::bad_request(code, format!("The specified {name} is malformed."))
                })
            })
            .transpose()
    }

    /// The page asked for, of at most `largest` items.
    pub fn get_page(&self, largest: u32) -> Result<Page, Refusal> {
        let number = self.get_number("PageNumber")?.unwrap_or(1);
        let size = self.get_number("PageSize")?.unwrap_or(10);
        if number == 0 {
            return Err(Refusal::invalid_parameter("PageNumber"));
        }
        if size == 0 || size > largest {
            return Err(Refusal::invalid_parameter("PageSize"));
        }
        Ok(Page { number, size })
    }

    /// The pairs in their order, without the names of `but`.
    pub fn pairs_without(&self, but: &[&str]) -> BTreeMap<String, String> {
        self.0
            .iter()
            .filter(|(name, _)| !but.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Sorted, RFC 3986-encoded, as both signatures want it.
    pub fn canonical_query(&self, but: &[&str]) -> String {
        let pairs = self.0.iter().filter(|(name, _)| !but.contains(&name.as_str()));
        pairs
            .map(|(name, value)| format!("{}={}", percent_encode(name), percent_encode(value)))
            .collect::<Vec<_>>()
            .join("&")
    }
}

/// A page of the actions with `PageNumber` and `PageSize`.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    number: u32,
    size: u32,
}

impl Page {
    /// Wraps the page of `all` as `{outer: {inner: […]}}` with the counters; only what is on the
    /// page is shown.
    pub fn wrap_items<T>(
        self,
        all: Vec<T>,
        outer: &str,
        inner: &str,
        show: impl Fn(T) -> Value,
    ) -> Value {
        let total = all.len();
        let skip = (self.number as usize - 1).saturating_mul(self.size as usize);
        let items: Vec<Value> =
            all.into_iter().skip(skip).take(self.size as usize).map(show).collect();
        json!({"TotalCount": total, "PageNumber": self.number, "PageSize": self.size, outer: {inner: items}})
    }
}

/// Decodes a query string or form body; `+` is a space.
pub fn decode_query(text: &[u8]) -> impl Iterator<Item = (String, String)> + '_ {
    url::form_urlencoded::parse(text).into_owned()
}

/// RFC 3986: everything but `A-Za-z0-9-_.~` becomes `%XX`.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([byte]));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_plus_is_a_space_and_is_reencoded_as_percent_twenty() {
        let params = Params::new(decode_query(b"b=a+b~c%2A&a=&B=%2F"));
        assert_eq!(params.canonical_query(&[]), "B=%2F&a=&b=a%20b~c%2A");
    }

    #[test]
    fn lists_stop_at_the_first_gap_and_booleans_ignore_case() {
        let params =
            Params::new(decode_query(b"Id.1=x&Id.2=y&Id.4=z&On=True&Off=false&Tag.1.Key=k"));
        assert_eq!(params.get_list("Id"), ["x", "y"]);
        assert!(params.get_bool("On") && !params.get_bool("Off") && !params.get_bool("Absent"));
        assert_eq!(params.get_tags(), [("k", None)]);
        assert!(params.contains_name("Tag") && !params.contains_name("Ta"));
    }

    #[test]
    fn pages_have_bounds() {
        assert!(Params::new(decode_query(b"PageSize=51")).get_page(50).is_err());
        assert!(Params::new(decode_query(b"PageNumber=0")).get_page(50).is_err());
        let page = Params::new(decode_query(b"PageNumber=2&PageSize=2")).get_page(50).unwrap();
        let wrapped = page.wrap_items(vec![1, 2, 3], "Things", "Thing", |it| json!(it));
        assert_eq!(wrapped["Things"]["Thing"], json!([3]));
        assert_eq!(wrapped["TotalCount"], 3);
    }
}

//! Formats of configuration values, beside the rules of `crate::text`.

/// True for a region or zone, such as `cn-hangzhou` or `cn-hangzhou-j`.
pub(super) fn is_place(text: &str) -> bool {
    text.contains('-') && text.split('-').all(|part| !part.is_empty() && is_lower(part))
}

/// True for an ID of the cloud, such as `ngw-…`. After the prefix come lower-case letters and
/// digits.
pub(super) fn is_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && is_lower(rest))
}

fn is_lower(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

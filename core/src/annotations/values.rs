//! Parsers of single annotation values; none of them looks at other annotations.

use crate::text::{Text, TextFault, escape_for_message};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The reason to refuse a value, and the allowed values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ValueError {
    pub(super) why: String,
    pub(super) allowed: String,
}

pub(super) fn refuse_value<T>(
    why: impl Into<String>,
    allowed: impl Into<String>,
) -> Result<T, ValueError> {
    Err(ValueError { why: why.into(), allowed: allowed.into() })
}

/// Parses a bool as the original controller does, with the spellings of Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => refuse_value("is not a bool", "\"true\" or \"false\""),
    }
}

/// Parses a bool that an empty value switches on: the original's documents say of these keys that
/// an empty value, or adding the annotation, enables them.
pub(super) fn parse_flag(text: &str) -> Result<bool, ValueError> {
    if text.is_empty() { Ok(true) } else { parse_bool(text) }
}

/// Parses one word of a closed list into its meaning.
pub(super) fn parse_word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, ValueError> {
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*meaning);
    }
    let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    refuse_value("is not known", allowed.join(", "))
}

/// Parses the policy for a pod whose address is late: hold, release or fail.
pub(super) fn parse_timeout_policy(text: &str) -> Result<&'static str, ValueError> {
    parse_word(text, &[("hold", "hold"), ("release", "release"), ("fail", "fail")])
}

/// Parses a line type of the cloud (`ISP` of AllocateEipAddress).
pub(super) fn parse_isp(text: &str) -> Result<&'static str, ValueError> {
    const LINES: [&str; 9] = [
        "BGP",
        "BGP_PRO",
        "ChinaTelecom",
        "ChinaUnicom",
        "ChinaMobile",
        "ChinaTelecom_L2",
        "ChinaUnicom_L2",
        "ChinaMobile_L2",
        "BGP_FinanceCloud",
    ];
    parse_word(text, &LINES.map(|line| (line, line)))
}

/// Parses the ID of a cloud resource. After the prefix come lower-case letters, digits and hyphens.
pub(super) fn parse_resource_id(text: &str, prefix: &'static str) -> Result<String, ValueError> {
    let rest = text.strip_prefix(prefix).unwrap_or_default();
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if rest.is_empty() || !rest.chars().all(legal) {
        return refuse_value(
            "is not an ID of this kind",
            format!("{prefix}… of lower-case letters, digits and hyphens"),
        );
    }
    Ok(text.to_owned())
}

/// Parses a name or description; the cloud refuses web addresses.
pub(super) fn parse_free_text(text: &str) -> Result<String, ValueError> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return refuse_value(
            "begins with a web address, which the cloud refuses",
            "a text that does not begin with http:// or https://",
        );
    }
    Ok(text.to_owned())
}

/// Parses the value of a tag, which names a pool of EIPs.
pub(super) fn parse_tag_value(text: &str) -> Result<String, ValueError> {
    let fits = !text.is_empty() && !text.contains("http://") && !text.contains("https://");
    if fits {
        Ok(text.to_owned())
    } else {
        refuse_value("is not a tag value", "a text without http:// or https://")
    }
}

/// Parses the list of security protections beyond the basic one.
pub(super) fn parse_security_protection(text: &str) -> Result<Vec<String>, ValueError> {
    let mut kinds = Vec::new();
    for kind in text.split(',').map(str::trim) {
        kinds.push(parse_word(kind, &[("AntiDDoS_Enhanced", "AntiDDoS_Enhanced")])?.to_owned());
    }
    // Duplicates are adjacent, as there is only one kind.
    kinds.dedup();
    Ok(kinds)
}

/// Parses the user's tags for an EIP: a JSON object of strings.
pub(super) fn parse_tags(text: &str) -> Result<BTreeMap<String, String>, ValueError> {
    /// The cloud allows 20 tags per resource; Waygate needs three of them.
    const MOST: usize = 17;
    const ALLOWED: &str = "a JSON object of at most 17 strings such as {\"team\":\"game\"}; keys of 1 to 128 and values of at most 128 \
                           characters; no key beginning with aliyun, acs: or waygate.dev/ or containing http:// or https://; no control characters";
    let Ok(tags) = serde_json::from_str::<BTreeMap<String, String>>(text) else {
        return refuse_value("is not a JSON object of strings", ALLOWED);
    };
    if tags.len() > MOST {
        return refuse_value(format!("has {} tags", tags.len()), ALLOWED);
    }
    let mut faults = Vec::new();
    for (key, value) in &tags {
        let folded = key.to_lowercase();
        if key.is_empty() {
            faults.push("a tag has an empty key".to_owned());
        }
        if ["aliyun", "acs:", "waygate.dev/"].iter().any(|reserved| folded.starts_with(reserved)) {
            faults.push(format!("tag {} begins with a reserved prefix", escape_for_message(key)));
        }
        if folded.contains("http://") || folded.contains("https://") {
            faults.push(format!("tag {} contains a web address", escape_for_message(key)));
        }
        // JSON escapes hide control characters from the check of the whole annotation.
        if let Err(TextFault { why, .. }) =
            Text::TagKey.check(key).and_then(|()| Text::TagValue.check(value))
        {
            faults.push(format!("tag {} {why}", escape_for_message(key)));
        }
    }
    if faults.is_empty() {
        Ok(tags)
    } else {
        refuse_value(format!("is refused: {}", faults.join(", ")), ALLOWED)
    }
}

/// Parses a positive Go duration, such as `5m30s`, `1.5h` or `300ms`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    match parse_nanoseconds(text) {
        Some(nanoseconds) if nanoseconds > 0 => Ok(Duration::from_nanos(nanoseconds)),
        _ => {
            refuse_value("is not a positive duration", "a Go duration such as 300ms, 5m30s or 1.5h")
        }
    }
}

/// Go's `time.ParseDuration` without a minus sign, in nanoseconds; none if malformed or beyond Go's
/// range of 292 years.
fn parse_nanoseconds(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total: u64 = 0;
    loop {
        let number =
            rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (amount, tail) = rest.split_at(number);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let part = scale_decimal(amount, unit_nanoseconds(unit)?)?;
        total = total.checked_add(part).filter(|total| i64::try_from(*total).is_ok())?;
        if tail.is_empty() {
            return Some(total);
        }
        rest = tail;
    }
}

fn unit_nanoseconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // Unicode has two characters for micro: the micro sign and the Greek letter mu.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Multiplies a decimal `amount`, such as `1.5`, `1.` or `.5`, by `unit`.
fn scale_decimal(amount: &str, unit: u64) -> Option<u64> {
    /// Digits after the point that can still add a nanosecond; Go ignores the rest as well.
    const DIGITS: usize = 14;
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut part: u128 = 0;
    let mut scale = u128::from(unit);
    for digit in fraction.bytes().take(DIGITS) {
        part = part * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    let fraction = part * u128::from(unit) * u128::from(unit) / scale;
    whole.checked_mul(unit)?.checked_add(u64::try_from(fraction).ok()?)
}

/// The items that occur more than once, sorted.
pub(super) fn find_repeated<T: Ord + Copy>(items: &[T]) -> Vec<T> {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<T> = items.iter().copied().filter(|item| !seen.insert(*item)).collect();
    twice.into_iter().collect()
}

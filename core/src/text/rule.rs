//! Rules that bound a text: its alphabet and its length.

use super::shown::{escape_for_message, find_forbidden};
use std::fmt;
use uuid::Uuid;

/// Characters, and their order, that a text may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// One line: every character but those of [`find_forbidden`].
    Line,
    /// Several lines: tabs and line ends as well, for lists and JSON.
    Lines,
    /// DNS label (RFC 1123), as Kubernetes names namespaces; not empty.
    DnsLabel,
    /// DNS subdomain (RFC 1123), as Kubernetes names pods and nodes; not empty.
    DnsSubdomain,
    /// UUID in the form of Kubernetes' UIDs: lower case, with hyphens.
    Uuid,
    /// Kind of Kubernetes: letters, digits and hyphens; not empty.
    Kind,
    /// Key of a label: a name, or a DNS subdomain, a slash and a name.
    LabelKey,
    /// Value of a label: empty, or a name.
    LabelValue,
    /// Letters, digits, hyphens and underscores; not empty.
    Word,
    /// ID of the cloud: letters, digits, `.`, `_` and `-`; not empty.
    CloudId,
}

/// The bounds of one text.
#[derive(Clone, Copy, Debug)]
pub struct TextRule {
    /// Characters that the text may have.
    pub alphabet: Alphabet,
    /// Longest text, in characters.
    pub longest: usize,
}

/// A text that breaks its rule. Both parts are fit for a message, whatever the text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextFault {
    /// The fault, as the predicate of a sentence about the text.
    pub why: String,
    /// Allowed texts.
    pub allowed: String,
}

impl fmt::Display for TextFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (allowed: {})", self.why, self.allowed)
    }
}

impl TextRule {
    /// Checks a text against the rule. The fault that is named is the worst: a character that no
    /// text may have, then the length, then the alphabet.
    pub fn check(self, text: &str) -> Result<(), TextFault> {
        let fault = |why, allowed| Err(TextFault { why, allowed });
        if let Some(wrong) = self.find_forbidden_character(text) {
            return fault(describe_forbidden(wrong), "no control characters".to_owned());
        }
        if text.chars().count() > self.longest {
            let allowed = format!("at most {} characters", self.longest);
            return fault(format!("is longer than {} characters", self.longest), allowed);
        }
        if self.alphabet.spells(text) {
            return Ok(());
        }
        let (what, allowed) = self.alphabet.describe();
        fault(format!("is not {what}"), format!("{allowed}, at most {} characters", self.longest))
    }

    /// True if the text keeps to the rule.
    pub fn allows(self, text: &str) -> bool {
        self.check(text).is_ok()
    }

    fn find_forbidden_character(self, text: &str) -> Option<char> {
        let blank = |c: &char| self.alphabet == Alphabet::Lines && matches!(c, '\t' | '\n' | '\r');
        // Without a copy: the first forbidden character may come after many blanks.
        text.chars()
            .filter(|c| !blank(c))
            .find(|c| find_forbidden(c.encode_utf8(&mut [0; 4])).is_some())
    }
}

/// Says which character no text may have.
fn describe_forbidden(wrong: char) -> String {
    let code = u32::from(wrong);
    if wrong.is_control() {
        format!("contains the control character U+{code:04X}")
    } else {
        format!("contains U+{code:04X}, which changes how the text around it is shown")
    }
}

impl Alphabet {
    /// True if the text has the form; its length is the rule's.
    fn spells(self, text: &str) -> bool {
        match self {
            Self::Line | Self::Lines => true,
            Self::DnsLabel => is_dns_label(text),
            Self::DnsSubdomain => text.split('.').all(is_dns_label),
            Self::Uuid => Uuid::try_parse(text).is_ok_and(|uuid| uuid.to_string() == text),
            Self::Kind => is_word(text, "-"),
            Self::LabelKey => match text.split_once('/') {
                Some((prefix, name)) => Self::DnsSubdomain.spells(prefix) && is_label_name(name),
                None => is_label_name(text),
            },
            Self::LabelValue => text.is_empty() || is_label_name(text),
            Self::Word => is_word(text, "-_"),
            Self::CloudId => is_word(text, "-_."),
        }
    }

    /// The form with its article, and the allowed characters.
    fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Line | Self::Lines => ("a text", "any characters but control characters"),
            Self::DnsLabel => {
                ("a DNS label", "lower-case letters, digits and hyphens, no hyphen at an end")
            }
            Self::DnsSubdomain => {
                ("a DNS subdomain", "lower-case letters, digits, hyphens and dots")
            }
            Self::Uuid => ("a UUID", "32 lower-case hexadecimal digits and four hyphens"),
            Self::Kind => ("a kind", "letters, digits and hyphens"),
            Self::LabelKey => ("a label's key", "a name, or a domain, a slash and a name"),
            Self::LabelValue => {
                ("a label's value", "letters, digits, hyphens, underscores and dots")
            }
            Self::Word => ("a word", "letters, digits, hyphens and underscores"),
            Self::CloudId => ("an ID", "letters, digits, hyphens, underscores and dots"),
        }
    }
}

/// True for a DNS label; its 63 characters are the limit of Kubernetes for each part of a name, too.
fn is_dns_label(text: &str) -> bool {
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// True for the name part of a label's key or a label's value.
fn is_label_name(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && is_word(text, "-_.")
        && ends(text.chars().next())
        && ends(text.chars().next_back())
}

fn is_word(text: &str, more: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

/// A fault of a text of this name, as one sentence in which the text is escaped and shortened.
pub fn describe_fault(name: &str, text: &str, fault: &TextFault) -> String {
    format!("{name} \"{}\" {fault}", escape_for_message(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(alphabet: Alphabet, text: &str) -> Option<String> {
        TextRule { alphabet, longest: 40 }.check(text).err().map(|fault| fault.why)
    }

    #[test]
    fn every_alphabet_takes_its_own_texts_and_no_others() {
        for (alphabet, right, wrong) in [
            (Alphabet::Line, &["", "ä b/c", "👩‍🚀"][..], &["a\nb", "a\u{85}"][..]),
            (Alphabet::Lines, &["", "a\r\n\tb"], &["a\0", "a\u{2028}b", "\u{7f}"]),
            (Alphabet::DnsLabel, &["a", "a-1"], &["", "-a", "a-", "A", "a.b", "ä"]),
            (Alphabet::DnsSubdomain, &["a", "web-0.a"], &["", ".", "a..b", "a.", "a/b", "A"]),
            (
                Alphabet::Uuid,
                &["5a0c1f0e-8a10-4c5b-9d3a-1f4f8f0f2b11"],
                &["", "5a0c1f0e8a104c5b9d3a1f4f8f0f2b11", "5A0C1F0E-8A10-4C5B-9D3A-1F4F8F0F2B11"],
            ),
            (Alphabet::Kind, &["StatefulSet", "V1-Kind"], &["", "a/b", "ä"]),
            (Alphabet::LabelKey, &["team", "a.b/team_1"], &["", "/a", "a/", "a/b/c", "-a"]),
            (Alphabet::LabelValue, &["", "v1.2_3"], &["a b", ".a", "a/b"]),
            (Alphabet::Word, &["c1_A-b"], &["", "a.b"]),
            (Alphabet::CloudId, &["eip-bp1", "cn-hangzhou-j"], &["", "a b", "ä", "a/b"]),
        ] {
            for text in right {
                assert_eq!(why(alphabet, text), None, "{alphabet:?} {text:?}");
            }
            for text in wrong {
                assert!(why(alphabet, text).is_some(), "{alphabet:?} {text:?}");
            }
        }
    }

    #[test]
    fn a_fault_names_the_character_or_the_length_and_stays_short() {
        assert_eq!(
            why(Alphabet::Line, "a\u{9b}").as_deref(),
            Some("contains the control character U+009B")
        );
        assert!(why(Alphabet::Line, "a\u{202e}b").is_some_and(|why| why.contains("U+202E")));
        assert_eq!(
            why(Alphabet::Line, &"ä".repeat(41)).as_deref(),
            Some("is longer than 40 characters")
        );
        let fault = TextRule { alphabet: Alphabet::Uuid, longest: 36 }.check("\0").unwrap_err();
        assert_eq!(
            describe_fault("uid", "\0", &fault),
            "uid \"\\0\" contains the control character U+0000 (allowed: no control characters)"
        );
    }
}

//! Texts from outside in messages, logs and columns: what no text may hold is escaped.

/// The first character that no text from outside may hold. Postgres takes no NUL, terminals obey
/// the other control characters (C0, DEL, C1), and U+2028, U+2029 and the bidirectional overrides
/// and isolates make a reader see another text than the one that is there.
pub fn find_forbidden(text: &str) -> Option<char> {
    text.chars().find(|c| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

/// The text with forbidden characters escaped, and cut to `longest` characters. A text that needs
/// neither stays as it is.
pub fn clean_text(text: &str, longest: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(longest.saturating_mul(4)));
    for character in text.chars() {
        if find_forbidden(character.encode_utf8(&mut [0; 4])).is_some() {
            clean.extend(character.escape_debug());
        } else {
            clean.push(character);
        }
    }
    match clean.char_indices().nth(longest) {
        Some(_) => clean.chars().take(longest.saturating_sub(1)).chain(['…']).collect(),
        None => clean,
    }
}

/// Makes a text fit to be quoted in a message: everything unprintable escaped, length limited.
pub fn escape_for_message(text: &str) -> String {
    /// In characters; names of cloud resources fit whole.
    const LONGEST: usize = 64;
    let mut short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forbidden_are_controls_line_separators_and_bidirectional_overrides() {
        for forbidden in
            ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}').chain(['\u{2028}', '\u{202e}', '\u{2067}'])
        {
            assert_eq!(find_forbidden(&format!("a{forbidden}b")), Some(forbidden));
        }
        for fine in [" ", "ä", "\u{a0}", "\u{200d}", "\u{200f}", "\u{fffd}", "👩‍🚀", "\\u0000"]
        {
            assert_eq!(find_forbidden(fine), None, "{fine:?}");
        }
    }

    proptest! {
        #[test]
        fn a_clean_text_holds_nothing_forbidden_and_stays_as_it_is(text in any::<String>(), longest in 1..50_usize) {
            let clean = clean_text(&text, longest);
            prop_assert!(find_forbidden(&clean).is_none() && clean.chars().count() <= longest);
            prop_assert_eq!(clean_text(&clean, longest), clean.clone());
            if find_forbidden(&text).is_none() && text.chars().count() <= longest {
                prop_assert_eq!(clean, text);
            }
        }
    }
}

//! Finds the known name that the author of an unknown one probably meant.

/// The known name closest to `word`, if the two are close enough for a typing slip.
///
/// Letter case, `_` and `-` do not count as differences, so that `natgw_id` finds `natgwId`, too.
pub(crate) fn nearest_name<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    /// Longer words are no slip, and their comparison would cost time that a hostile author decides
    /// over.
    const MAX_SLIP_LENGTH: usize = 64;
    let word = fold_spelling(word);
    if word.is_empty() || word.len() > MAX_SLIP_LENGTH {
        return None;
    }
    let tolerance = if word.len() < 8 { 1 } else { 2 };
    known
        .into_iter()
        .map(|name| (edit_distance(&word, &fold_spelling(name)), name))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn fold_spelling(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// Edits between two words: a letter too many, missing, wrong, or two swapped (optimal string
/// alignment).
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, &to) in b.iter().enumerate() {
            let replaced = above[j] + usize::from(from != to);
            let mut best = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest_name;

    const KNOWN: [&str; 4] = ["natgwId", "zoneId", "portRangeStart", "eips"];

    #[test]
    fn a_slip_finds_the_name_meant() {
        assert_eq!(nearest_name("natgwID", KNOWN), Some("natgwId"));
        assert_eq!(nearest_name("natgw-id", KNOWN), Some("natgwId"));
        assert_eq!(nearest_name("portRnageStart", KNOWN), Some("portRangeStart"));
        assert_eq!(nearest_name("eip", KNOWN), Some("eips"));
    }

    #[test]
    fn another_word_finds_nothing() {
        assert_eq!(nearest_name("affinity", KNOWN), None);
        assert_eq!(nearest_name("", KNOWN), None);
        assert_eq!(nearest_name(&"natgwId".repeat(1000), KNOWN), None);
    }
}

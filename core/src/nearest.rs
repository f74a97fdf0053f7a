//! Finds the known name that the author of an unknown one probably meant.

/// The known name closest to `word`, if the two are close enough for a typing slip.
///
/// Letter case, `_` and `-` do not count as differences, so that `natgw_id` finds `natgwId`, too.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer words are no slip, and their comparison would cost time that a hostile author decides
    /// over.
    const LONGEST: usize = 64;
    let word = folded(word);
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let tolerance = if word.len() < 8 { 1 } else { 2 };
    known
        .into_iter()
        .map(|name| (distance(&word, &folded(name)), name))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn folded(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// Edits between two words: a letter too many, missing, wrong, or two swapped (optimal string
/// alignment).
fn distance(a: &[char], b: &[char]) -> usize {
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
    use super::nearest;

    const KNOWN: [&str; 4] = ["natgwId", "zoneId", "portRangeStart", "eips"];

    #[test]
    fn a_slip_finds_the_name_meant() {
        assert_eq!(nearest("natgwID", KNOWN), Some("natgwId"));
        assert_eq!(nearest("natgw-id", KNOWN), Some("natgwId"));
        assert_eq!(nearest("portRnageStart", KNOWN), Some("portRangeStart"));
        assert_eq!(nearest("eip", KNOWN), Some("eips"));
    }

    #[test]
    fn another_word_finds_nothing() {
        assert_eq!(nearest("affinity", KNOWN), None);
        assert_eq!(nearest("", KNOWN), None);
        assert_eq!(nearest(&"natgwId".repeat(1000), KNOWN), None);
    }
}

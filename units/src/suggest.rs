//! "Did you mean": the known word nearest to an unknown one.

/// Longer words are not compared: they are not misspelled keys.
const MAX_LEN: usize = 64;

/// The candidate that `word` most likely misspells: the one with the smallest edit distance, if that is
/// at most a third of the word's length, else one that begins with the word (`env`).
pub(crate) fn closest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let plain = folded(word);
    if plain.is_empty() || plain.len() > MAX_LEN {
        return None;
    }
    let allowed = (plain.len() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let other = folded(candidate);
        let mut distance = distance(&plain, &other);
        // All one-letter names are one edit apart, which is no evidence of a misspelling.
        if distance > allowed || (distance > 0 && plain.len().max(other.len()) < 2) {
            if plain.len() < 3 || !other.starts_with(&plain) {
                continue;
            }
            distance = allowed + 1;
        }
        if best.is_none_or(|(smallest, _)| distance < smallest) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The word without case, hyphens, underscores and spaces.
pub(crate) fn folded(word: &str) -> Vec<char> {
    word.chars()
        .filter(|c| !matches!(c, '-' | '_' | ' '))
        .map(|c| c.to_ascii_lowercase())
        .take(MAX_LEN + 1)
        .collect()
}

/// Optimal string alignment distance: insertions, deletions, replacements, and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut cost = at(&last, j) + usize::from(x != y);
            cost = cost.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    at(&last, b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance_of(a: &str, b: &str) -> usize {
        distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>())
    }

    #[test]
    fn distances() {
        assert_eq!(distance_of("", "abc"), 3);
        assert_eq!(distance_of("restrat", "restart"), 1);
        assert_eq!(distance_of("kitten", "sitting"), 3);
        assert_eq!(distance_of("abc", "abc"), 0);
    }

    #[test]
    fn nearest_word_or_none() {
        let words = ["restart", "requires", "ready", "environment", "command"];
        assert_eq!(closest("restrat", words), Some("restart"));
        assert_eq!(closest("Requires", words), Some("requires"));
        assert_eq!(closest("env", words), Some("environment"));
        assert_eq!(closest("comand", words), Some("command"));
        assert_eq!(closest("xyzzy", words), None);
        assert_eq!(closest("", words), None);
        assert_eq!(closest("a", ["b"]), None);
        assert_eq!(closest("bd", ["web", "db"]), Some("db"));
    }
}

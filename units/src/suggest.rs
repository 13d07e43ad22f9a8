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
    let length = plain.chars().count();
    if length == 0 || length > MAX_LEN {
        return None;
    }
    let allowed = (length / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let other = folded(candidate);
        // Optimal string alignment: insertions, deletions, replacements, swaps of neighbours.
        let mut distance = strsim::osa_distance(&plain, &other);
        // All one-letter names are one edit apart, which is no evidence of a misspelling.
        if distance > allowed || (distance > 0 && length.max(other.chars().count()) < 2) {
            if length < 3 || !other.starts_with(&plain) {
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
pub(crate) fn folded(word: &str) -> String {
    word.chars()
        .filter(|c| !matches!(c, '-' | '_' | ' '))
        .map(|c| c.to_ascii_lowercase())
        .take(MAX_LEN + 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(closest("é", ["e"]), None, "lengths are in characters, not in bytes");
        assert_eq!(closest("bd", ["web", "db"]), Some("db"));
    }
}

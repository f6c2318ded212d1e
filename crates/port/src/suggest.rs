//! Suggestions ("did you mean") for a word that resembles a known one.

/// The similarity from which a word counts as a typing error, 1 being equal: the threshold of
/// clap's own tips.
const MIN_SIMILARITY: f64 = 0.7;

/// Returns how similar `word` is to `known`, from 0 to 1. The Jaro similarity of short words is
/// always low, so one letter too many, missing or wrong, or two swapped, count as a typing error in
/// a word of any length.
fn similarity(word: &str, known: &str) -> f64 {
    let typing_error = known.chars().count() > 2 && strsim::osa_distance(word, known) == 1;
    strsim::jaro(word, known).max(if typing_error { 0.9 } else { 0.0 })
}

/// Returns the one of `known` that is most similar to `word`, or `None` when none is similar enough
/// or `word` is one of them.
#[must_use]
pub fn closest<T: AsRef<str>>(word: &str, known: impl IntoIterator<Item = T>) -> Option<T> {
    let known: Vec<T> = known.into_iter().collect();
    if known.iter().any(|candidate| candidate.as_ref() == word) {
        // The word exists, so something else is wrong.
        return None;
    }
    known
        .into_iter()
        .map(|candidate| (similarity(word, candidate.as_ref()), candidate))
        .filter(|(similarity, _)| *similarity > MIN_SIMILARITY)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// Returns ` (did you mean 'promisc'?)` with the [`closest`] of `known`, or an empty text when there
/// is none. It is made to be appended to the word.
#[must_use]
pub fn hint<T: AsRef<str>>(word: &str, known: impl IntoIterator<Item = T>) -> String {
    closest(word, known)
        .map(|candidate| format!(" (did you mean '{}'?)", candidate.as_ref()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_word_is_suggested() {
        assert_eq!(hint("promsic", ["mac", "promisc", "media"]), " (did you mean 'promisc'?)");
        assert_eq!(hint("mca", ["id", "mac", "media"]), " (did you mean 'mac'?)");
        assert_eq!(hint("xyzzy", ["mac", "promisc", "media"]), "");
        assert_eq!(hint("mac", ["mac", "macs"]), "");
    }
}

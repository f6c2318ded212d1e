//! "Did you mean": for words that come close to one that exists.

/// Alike enough to be a slip of the fingers (1 is the same); the threshold clap uses for its own tips.
const ALIKE: f64 = 0.7;

/// How much `word` is like `known`. By their letters in common short words are never alike, but two letters in the wrong order, or one
/// too many, missing or wrong are a slip in any.
fn likeness(word: &str, known: &str) -> f64 {
    let slip = known.chars().count() > 2 && strsim::osa_distance(word, known) == 1;
    strsim::jaro(word, known).max(if slip { 0.9 } else { 0.0 })
}

/// ` (did you mean 'promisc'?)` when one of `known` is much like `word`, else nothing; to be put behind the word.
pub fn hint<T: AsRef<str>>(word: &str, known: impl IntoIterator<Item = T>) -> String {
    let known: Vec<T> = known.into_iter().collect();
    if known.iter().any(|candidate| candidate.as_ref() == word) {
        // It is not this word that is wrong.
        return String::new();
    }
    known
        .into_iter()
        .map(|candidate| (likeness(word, candidate.as_ref()), candidate))
        .filter(|(alike, _)| *alike > ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| format!(" (did you mean '{}'?)", candidate.as_ref()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_is_suggested_and_nothing_far_off() {
        assert_eq!(hint("promsic", ["mac", "promisc", "media"]), " (did you mean 'promisc'?)");
        assert_eq!(hint("mca", ["id", "mac", "media"]), " (did you mean 'mac'?)");
        assert_eq!(hint("xyzzy", ["mac", "promisc", "media"]), "");
        assert_eq!(hint("mac", ["mac", "macs"]), "");
    }
}

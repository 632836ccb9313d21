//! "Did you mean": the nearest known word.

/// The candidate that a person most likely meant, if any is near enough.
///
/// Case, `_` and `-` do not count (`min_replicas` finds `minReplicas`); otherwise about one slip in three letters is
/// forgiven.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    let word = fold(word);
    if word.len() > LONGEST {
        return None;
    }
    candidates
        .map(|candidate| (distance(&word, &fold(candidate)), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (word.len().min(candidate.len()) / 3).max(1))
        .map(|(_, candidate)| candidate)
}

fn fold(word: &str) -> Vec<char> {
    word.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Edits between two words; swapping two neighbours counts once (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = above[j] + usize::from(x != y);
            let mut least = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [&str; 4] = ["transport", "minReplicas", "maxReplicas", "workload"];

    #[test]
    fn slips_find_the_word() {
        for (typo, meant) in [
            ("transprot", "transport"),
            ("Transport", "transport"),
            ("min_replicas", "minReplicas"),
            ("worklaod", "workload"),
            ("minReplica", "minReplicas"),
        ] {
            assert_eq!(nearest(typo, FIELDS.into_iter()), Some(meant), "{typo}");
        }
    }

    #[test]
    fn other_words_find_nothing() {
        for word in ["socket", "image", "", &"x".repeat(500)] {
            assert_eq!(nearest(word, FIELDS.into_iter()), None, "{word}");
        }
    }
}

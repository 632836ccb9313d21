//! Finds variables that somebody meant for us and misspelled.

use super::{Environment, Problem};
use crate::table::Table;
use crate::variable::Group;

/// A warning for each variable that nobody knows and that is nearly one of the program's.
pub fn misspelled<G: Group>(environment: &Environment<'_>, table: &Table<G>) -> Vec<Problem> {
    let ours: Vec<_> = table.names().collect();
    environment
        .variables
        .iter()
        .filter(|(name, value)| {
            let is_known = ours
                .iter()
                .chain(table.elsewhere)
                .any(|known| *known == name.as_str());
            !is_known && !names_a_service(name, value)
        })
        .filter_map(|(name, _)| {
            nearest_name(name, &ours, table.elsewhere).map(|meant| {
                Problem::new(
                    name,
                    format!("not known and without effect; did you mean {meant}?"),
                )
            })
        })
        .collect()
}

/// The candidate that a person most likely meant by `word`, if one is near enough: about one slip in three letters,
/// and letters in another case, are forgiven.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_ascii_lowercase();
    candidates
        .map(|candidate| {
            (
                strsim::osa_distance(&word, &candidate.to_ascii_lowercase()),
                candidate,
            )
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (word.len().min(candidate.len()) / 3).max(1))
        .map(|(_, candidate)| candidate)
}

/// Kubernetes tells every container of the services around it, in variables that begin with their names.
fn names_a_service(name: &str, value: &str) -> bool {
    name.contains("_SERVICE_")
        || name.ends_with("_SERVICE")
        || name.contains("_PORT_")
        || value.starts_with("tcp://")
        || value.starts_with("udp://")
}

fn nearest_name(
    name: &str,
    ours: &[&'static str],
    elsewhere: &'static [&'static str],
) -> Option<&'static str> {
    let word = name.strip_prefix("ASYA_")?;
    let (distance, meant) = ours
        .iter()
        .chain(elsewhere)
        .filter_map(|known| Some((strsim::osa_distance(word, known.strip_prefix("ASYA_")?), *known)))
        .min_by_key(|(distance, _)| *distance)?;
    let is_ours = ours.contains(&meant);
    (is_ours && distance <= (word.len() / 5).max(1)).then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_find_the_word_and_other_words_find_nothing() {
        const WORDS: [&str; 3] = ["host", "passwordSecretRef", "maxRetryCount"];
        for (word, meant) in [
            ("hots", Some("host")),
            ("HOST", Some("host")),
            ("maxRetriesCount", Some("maxRetryCount")),
            ("secret", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, WORDS.into_iter()), meant, "{word}");
        }
    }
}

//! Finds variables that somebody meant for us and misspelled.

use super::{Environment, Problem};
use crate::variables::{ELSEWHERE, VARIABLES};

/// A warning for each variable that nobody knows and that is nearly one of ours.
pub(crate) fn misspelled(environment: &Environment<'_>) -> Vec<Problem> {
    environment
        .variables
        .iter()
        .filter(|(name, value)| !is_known(name) && !names_a_service(name, value))
        .filter_map(|(name, _)| {
            nearest(name).map(|meant| {
                Problem::new(
                    name,
                    format!("not known and without effect; did you mean {meant}?"),
                )
            })
        })
        .collect()
}

fn names() -> impl Iterator<Item = &'static str> {
    VARIABLES
        .iter()
        .flat_map(|variable| std::iter::once(&variable.name).chain(variable.aliases))
        .copied()
}

fn is_known(name: &str) -> bool {
    names()
        .chain(ELSEWHERE.iter().copied())
        .any(|known| known == name)
}

/// Kubernetes tells every container of the services around it, in variables that begin with their names.
fn names_a_service(name: &str, value: &str) -> bool {
    name.contains("_SERVICE_")
        || name.ends_with("_SERVICE")
        || name.contains("_PORT_")
        || value.starts_with("tcp://")
        || value.starts_with("udp://")
}

fn nearest(name: &str) -> Option<&'static str> {
    let word = name.strip_prefix("ASYA_")?;
    let all = names().chain(ELSEWHERE.iter().copied());
    let (distance, meant) = all
        .filter_map(|known| Some((strsim::osa_distance(word, known.strip_prefix("ASYA_")?), known)))
        .min_by_key(|(distance, _)| *distance)?;
    let ours = names().any(|known| known == meant);
    (ours && distance <= (word.len() / 5).max(1)).then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(variables: &[(&str, &str)]) -> Vec<String> {
        let environment = Environment {
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            read_file: &|_| unreachable!("no file is named"),
        };
        misspelled(&environment).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn slips_are_found() {
        for (typo, meant) in [
            ("ASYA_RABBITMQ_PASWORD", "ASYA_RABBITMQ_PASSWORD"),
            ("ASYA_ACTORNAME", "ASYA_ACTOR_NAME"),
            ("ASYA_RUNTIME_TIMOUT", "ASYA_RUNTIME_TIMEOUT"),
            ("ASYA_LOG_LEVLE", "ASYA_LOG_LEVEL"),
            ("ASYA_STEP_HAPPY_ENDS", "ASYA_STEP_HAPPY_END"),
        ] {
            let found = warnings(&[(typo, "x")]);
            assert_eq!(found.len(), 1, "{typo}");
            assert!(found[0].contains(meant), "{found:?}");
        }
    }

    #[test]
    fn what_belongs_to_others_is_left_alone() {
        let others = [
            ("ASYA_HANDLER", "a.b"),
            ("ASYA_HANDLR", "a.b"),
            ("ASYA_S3_BUCKET", "b"),
            ("ASYA_MY_OWN_SETTING", "1"),
            ("ASYA_GATEWAY_SERVICE_HOST", "10.0.0.1"),
            ("ASYA_GATEWAY_PORT", "tcp://10.0.0.1:80"),
            ("ASYA_GATEWAY_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("RABBITMQ_PASWORD", "x"),
        ];
        assert_eq!(warnings(&others), Vec::<String>::new());
    }
}

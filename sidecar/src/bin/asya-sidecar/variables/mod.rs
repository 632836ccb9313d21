//! The variables that the sidecar reads, as one table.
//!
//! What it is: the single source for reading, `--help`, the log line at the start and the page `docs/sidecar.md`.
//! What it is not: it reads nothing; that is [`settings`](crate::settings).

mod list;

pub(crate) use list::*;

use asya_program::Table;

/// One variable of the sidecar.
pub(crate) type Variable = asya_program::Variable<Group>;

/// All of them.
pub(crate) static TABLE: Table<Group> = Table {
    variables: VARIABLES,
    elsewhere: ELSEWHERE,
};

/// What a variable is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Actor,
    RabbitMq,
    Queues,
    Runtime,
    Limits,
    Retries,
    Gateway,
    Endpoints,
    Logs,
    Shutdown,
    WithoutEffect,
}

impl asya_program::Group for Group {
    const ALL: &'static [Self] = &[
        Self::Actor,
        Self::RabbitMq,
        Self::Queues,
        Self::Runtime,
        Self::Limits,
        Self::Retries,
        Self::Gateway,
        Self::Endpoints,
        Self::Logs,
        Self::Shutdown,
        Self::WithoutEffect,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Actor => "Actor",
            Self::RabbitMq => "RabbitMQ",
            Self::Queues => "Queues",
            Self::Runtime => "Runtime",
            Self::Limits => "Limits",
            Self::Retries => "Retries",
            Self::Gateway => "Gateway",
            Self::Endpoints => "Metrics and health",
            Self::Logs => "Logs",
            Self::Shutdown => "Shutdown",
            Self::WithoutEffect => "Accepted without effect in this build",
        }
    }

    fn has_effect(self) -> bool {
        self != Self::WithoutEffect
    }
}

#[cfg(test)]
mod tests {
    use asya_program::{Environment, misspelled};

    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert_eq!(TABLE.mistakes(), Vec::<String>::new());
    }

    fn warnings(variables: &[(&str, &str)]) -> Vec<String> {
        let environment = Environment {
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            read_file: &|_| unreachable!("no file is named"),
        };
        let found = misspelled(&environment, &TABLE);
        found.iter().map(ToString::to_string).collect()
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

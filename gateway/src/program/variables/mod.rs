//! The variables that the gateway reads, as one table.
//!
//! What it is: the single source for reading, `--help`, the log line at the start and the page `docs/gateway.md`.
//! What it is not: it reads nothing; that is [`environment`](super::environment).

mod list;

pub(super) use list::*;

use asya_program::Table;

/// One variable of the gateway.
pub(super) type Variable = asya_program::Variable<Group>;

/// All of them.
pub(super) static TABLE: Table<Group> = Table {
    variables: VARIABLES,
    elsewhere: ELSEWHERE,
};

/// What a variable is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Listener,
    Tools,
    Database,
    Queues,
    RabbitMq,
    Auth,
    Origins,
    Limits,
    Logs,
    WithoutEffect,
}

impl asya_program::Group for Group {
    const ALL: &'static [Self] = &[
        Self::Listener,
        Self::Tools,
        Self::Database,
        Self::Queues,
        Self::RabbitMq,
        Self::Auth,
        Self::Origins,
        Self::Limits,
        Self::Logs,
        Self::WithoutEffect,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Listener => "Listener",
            Self::Tools => "Tools",
            Self::Database => "Database",
            Self::Queues => "Queues",
            Self::RabbitMq => "RabbitMQ",
            Self::Auth => "Who may do what",
            Self::Origins => "Web pages and names",
            Self::Limits => "Limits and retention",
            Self::Logs => "Logs and metrics",
            Self::WithoutEffect => "Accepted without effect in this build",
        }
    }

    fn has_effect(self) -> bool {
        self != Self::WithoutEffect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert_eq!(TABLE.mistakes(), Vec::<String>::new());
    }
}

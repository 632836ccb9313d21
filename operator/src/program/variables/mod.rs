//! The variables that the operator reads, as one table.
//!
//! What it is: the single source for reading, `--help`, the log line at the start and the page `docs/operator.md`.
//! What it is not: it reads nothing; that is [`environment`](super::environment).

mod list;

pub(super) use list::*;

use asya_program::Table;

/// One variable of the operator.
pub(super) type Variable = asya_program::Variable<Group>;

/// All of them.
pub(super) static TABLE: Table<Group> = Table {
    variables: VARIABLES,
    elsewhere: ELSEWHERE,
};

/// What a variable is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Brokers,
    Pods,
    Cluster,
    Gateway,
    Logs,
    WithoutEffect,
}

impl asya_program::Group for Group {
    const ALL: &'static [Self] = &[
        Self::Brokers,
        Self::Pods,
        Self::Cluster,
        Self::Gateway,
        Self::Logs,
        Self::WithoutEffect,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Brokers => "Brokers and queues",
            Self::Pods => "Pods of actors",
            Self::Cluster => "Cluster and controller",
            Self::Gateway => "Gateway",
            Self::Logs => "Logs",
            Self::WithoutEffect => "Accepted without effect",
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

//! The variables that the sidecar reads, as one table.
//!
//! What it is: the single source for reading, `--help`, the log line at the start and the page `docs/sidecar.md`.
//! What it is not: it reads nothing; that is [`environment`](crate::environment).

mod list;

pub(crate) use list::*;

/// One variable.
#[derive(Debug)]
pub(crate) struct Variable {
    /// What it is called.
    pub(crate) name: &'static str,
    /// Other names for it; the first that is set counts, and the canonical one before all.
    pub(crate) aliases: &'static [&'static str],
    /// The default as one would write it; empty where there is none.
    pub(crate) default: &'static str,
    /// What holds without a value, where that cannot be written as one.
    pub(crate) otherwise: &'static str,
    /// Where it belongs.
    pub(crate) group: Group,
    /// What it does, in one sentence or two.
    pub(crate) meaning: &'static str,
    /// How its value may be shown.
    pub(crate) shown: Shown,
    /// What a bad value leads to.
    pub(crate) severity: Severity,
}

/// How a value may be shown in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// As it is.
    Plain,
    /// Not at all.
    Never,
    /// As a URL without user, password and query.
    Url,
}

/// What a bad value leads to (rulings 23).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The sidecar does not start.
    Fatal,
    /// A warning, and the default holds: the original did the same without a word.
    Default,
}

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

impl Group {
    /// All, in the order in which they are shown.
    pub(crate) const ALL: [Self; 11] = [
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

    pub(crate) const fn title(self) -> &'static str {
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
}

impl Variable {
    /// A variable that the original reads too.
    const fn contract(
        name: &'static str,
        default: &'static str,
        group: Group,
        meaning: &'static str,
    ) -> Self {
        Self {
            name,
            aliases: &[],
            default,
            otherwise: "",
            group,
            meaning,
            shown: Shown::Plain,
            severity: Severity::Default,
        }
    }

    /// A variable of ours.
    const fn new(name: &'static str, default: &'static str, group: Group, meaning: &'static str) -> Self {
        Self::contract(name, default, group, meaning).fatal()
    }

    const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn otherwise(mut self, otherwise: &'static str) -> Self {
        self.otherwise = otherwise;
        self
    }

    const fn shown(mut self, shown: Shown) -> Self {
        self.shown = shown;
        self
    }

    const fn fatal(mut self) -> Self {
        self.severity = Severity::Fatal;
        self
    }

    /// The default in words.
    pub(crate) const fn default_in_words(&self) -> &'static str {
        if self.default.is_empty() {
            self.otherwise
        } else {
            self.default
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_is_listed_once() {
        let mut names = HashSet::new();
        for variable in VARIABLES {
            for name in variable.aliases.iter().chain([&variable.name]) {
                assert!(names.insert(*name), "{name} is listed twice");
            }
        }
    }

    #[test]
    fn every_group_has_variables_that_stand_together() {
        let mut order: Vec<_> = VARIABLES.iter().map(|variable| variable.group).collect();
        order.dedup();
        assert_eq!(order, Group::ALL);
    }

    #[test]
    fn every_meaning_is_a_sentence() {
        for variable in VARIABLES {
            assert!(variable.meaning.ends_with('.'), "{}", variable.name);
        }
    }
}

//! One thing to say about one variable, in one line and without secrets.

use std::fmt;

use super::values::Expected;
use crate::variable::{Shown, Variable};

/// Longest value that is repeated.
const LONGEST: usize = 60;

/// What is wrong with a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its name as it was set.
    pub variable: String,
    text: String,
}

impl Problem {
    /// `text` stands behind the variable's name.
    pub fn new(variable: &str, text: impl Into<String>) -> Self {
        Self {
            variable: variable.to_owned(),
            text: text.into(),
        }
    }

    /// What stands behind the variable's name.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn missing<G>(variable: &Variable<G>) -> Self {
        Self::new(
            variable.name,
            format!("not set; expected: {}", variable.meaning.trim_end_matches('.')),
        )
    }

    pub(super) fn bad_value<G>(variable: &Variable<G>, name: &str, value: &str, expected: Expected) -> Self {
        let value = match variable.shown {
            // With an @ it may be an address with a password, put into the wrong variable.
            Shown::Plain if !value.contains('@') => shortened(value),
            Shown::Plain | Shown::Never | Shown::Url => "its value (not shown)".into(),
        };
        let Expected { what, problem } = expected;
        let problem = problem.unwrap_or_else(|| "cannot be used".into());
        Self::new(name, format!("{value} {problem}; expected {what}"))
    }

    pub(super) fn falling_back<G>(mut self, variable: &Variable<G>) -> Self {
        self.text += "; using the default";
        let default = variable.default_in_words();
        if !default.is_empty() {
            self.text += ", ";
            self.text += default;
        }
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.text)
    }
}

fn shortened(value: &str) -> String {
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

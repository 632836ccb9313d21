//! Reading variables one by one, and writing down everything that is wrong with them.
//!
//! What it is: a snapshot of the [`Environment`], and a [`Reader`] that applies a program's table of
//! [variables](Variable) to it. What it is not: it does not know what the variables are for.

mod problem;
mod typos;
mod values;

use std::collections::BTreeMap;
use std::path::Path;

pub use problem::Problem;
pub use typos::{misspelled, nearest};
pub use values::{
    Expected, actor_name, at_least_one, boolean, duration, exchange, json_object, listen_address, namespace,
    port, positive_duration, size, text,
};

use crate::variable::{Severity, Shown, Variable};

/// The variables of a process, and its way to files that they name.
pub struct Environment<'a> {
    /// All of them, those of others included.
    pub variables: BTreeMap<String, String>,
    /// Reads a file.
    pub read_file: &'a dyn Fn(&Path) -> std::io::Result<String>,
}

impl Environment<'_> {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self {
            variables: std::env::vars_os()
                .map(|(name, value)| (lossy(name), lossy(value)))
                .collect(),
            read_file: &|path| std::fs::read_to_string(path),
        }
    }

    /// The value of a variable; an empty one is none (contract data-plane §5).
    fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }
}

/// Reads variables, and keeps what is to be said about them.
pub struct Reader<'a> {
    environment: &'a Environment<'a>,
    /// Why the program cannot start.
    pub problems: Vec<Problem>,
    /// What is odd, and what holds instead.
    pub warnings: Vec<Problem>,
    /// The variables that are set, with values that may be shown.
    pub set: BTreeMap<&'static str, String>,
}

impl<'a> Reader<'a> {
    /// A reader that has read nothing yet.
    pub fn new(environment: &'a Environment<'a>) -> Self {
        Self {
            environment,
            problems: Vec::new(),
            warnings: Vec::new(),
            set: BTreeMap::new(),
        }
    }

    /// The value, or the default of the table.
    pub fn get<T, G>(
        &mut self,
        variable: &'static Variable<G>,
        parse: impl Fn(&str) -> Result<T, Expected>,
    ) -> T {
        self.optional(variable, &parse)
            .unwrap_or_else(|| match parse(variable.default) {
                Ok(value) => value,
                Err(_) => unreachable!("a test reads every default of the table"),
            })
    }

    /// The value if there is a good one. A bad one is written down; what holds then is the caller's business.
    pub fn optional<T, G>(
        &mut self,
        variable: &'static Variable<G>,
        parse: impl Fn(&str) -> Result<T, Expected>,
    ) -> Option<T> {
        let (name, value) = self.find(variable)?;
        match parse(value) {
            Ok(parsed) => Some(parsed),
            Err(expected) => {
                self.refuse(variable, Problem::bad_value(variable, name, value, expected));
                None
            }
        }
    }

    /// The value if there is a good one; without one the program cannot start.
    pub fn required<T, G>(
        &mut self,
        variable: &'static Variable<G>,
        parse: impl Fn(&str) -> Result<T, Expected>,
    ) -> Option<T> {
        if self.find(variable).is_none() {
            self.problems.push(Problem::missing(variable));
            return None;
        }
        self.optional(variable, parse)
    }

    /// Whether the variable has a value, good or bad.
    pub fn is_set<G>(&self, variable: &Variable<G>) -> bool {
        self.name_and_value(variable).is_some()
    }

    /// Writes down a mistake that only several variables together make.
    pub fn problem<G>(&mut self, variable: &'static Variable<G>, text: impl Into<String>) {
        self.problems.push(Problem::new(variable.name, text));
    }

    /// Writes down something odd.
    pub fn warn<G>(&mut self, variable: &'static Variable<G>, text: impl Into<String>) {
        self.warnings.push(Problem::new(variable.name, text));
    }

    /// Reads a file that a variable names.
    pub fn file<G>(&mut self, variable: &'static Variable<G>, path: &Path) -> Option<String> {
        match (self.environment.read_file)(path) {
            Ok(content) => Some(content),
            Err(error) => {
                self.problem(
                    variable,
                    format!(
                        "cannot read {}: {error}; expected a file that this user may read",
                        path.display()
                    ),
                );
                None
            }
        }
    }

    fn find<G>(&mut self, variable: &'static Variable<G>) -> Option<(&'a str, &'a str)> {
        let (name, value) = self.name_and_value(variable)?;
        self.set.insert(variable.name, shown(variable, value));
        for other in std::iter::once(&variable.name).chain(variable.aliases) {
            let ignored = self.environment.get(other).is_some_and(|it| it != value);
            let warned = self.warnings.iter().any(|warning| warning.variable == *other);
            if *other != name && ignored && !warned {
                let text = format!("ignored, since {name} is set to another value");
                self.warnings.push(Problem::new(other, text));
            }
        }
        Some((name, value))
    }

    /// Under which name it is set, and to what.
    fn name_and_value<G>(&self, variable: &Variable<G>) -> Option<(&'static str, &'a str)> {
        let environment = self.environment;
        std::iter::once(&variable.name)
            .chain(variable.aliases)
            .find_map(|name| environment.get(name).map(|value| (*name, value)))
    }

    fn refuse<G>(&mut self, variable: &'static Variable<G>, problem: Problem) {
        match variable.severity {
            Severity::Fatal => self.problems.push(problem),
            Severity::Default => self.warnings.push(problem.falling_back(variable)),
        }
    }
}

/// The value as it may stand in logs.
fn shown<G>(variable: &Variable<G>, value: &str) -> String {
    match variable.shown {
        // USER:PASSWORD@HOST, put into a variable that is not meant for it.
        Shown::Plain if value.contains('@') && value.contains(':') => "***".into(),
        Shown::Plain => value.to_owned(),
        Shown::Never => "***".into(),
        Shown::Url => values::without_secrets(value),
    }
}

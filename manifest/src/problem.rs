//! What was wrong, where, and what to do: the report that a person or a script reads.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A place in a YAML file; both numbers count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// A file and, unless the file as a whole is meant, a place in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Location {
    /// The path as it was given, joined with the file's name; never made absolute.
    pub file: PathBuf,
    /// Where in the file; `None` for the file (or directory) as a whole.
    #[serde(flatten)]
    pub position: Option<Position>,
}

impl Location {
    /// The file (or directory) as a whole.
    pub fn file(file: &Path) -> Self {
        Self {
            file: file.to_path_buf(),
            position: None,
        }
    }

    /// One place in a file.
    pub fn at(file: &Path, position: Position) -> Self {
        Self {
            file: file.to_path_buf(),
            position: Some(position),
        }
    }
}

impl fmt::Display for Location {
    /// `file:line:column`, or the bare path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        match self.position {
            Some(Position { line, column }) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// One mistake, or (in [`Directory::notices`](crate::Directory::notices)) one remark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where it is.
    #[serde(flatten)]
    pub location: Location,
    /// The key path inside the document, e.g. `spec.workload.template.spec.containers[0].env[1].value`;
    /// empty when no key is meant.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(location: Location, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            location,
            key: key.into(),
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    /// `file:line:column: key: message`, then the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.location)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n    hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that was wrong, in reading order (file, line, column).
///
/// [`Display`](fmt::Display) is the report for people and ends with a count; [`Serialize`] gives scripts a
/// JSON list of `{file, line, column, key, message, hint}`, where `line`, `column` and `hint` may be absent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a problem at its place in reading order.
    pub fn push(&mut self, problem: Problem) {
        let place = self
            .0
            .partition_point(|earlier| earlier.location <= problem.location);
        self.0.insert(place, problem);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In reading order.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// `Err(self)` if there is any, else `Ok(value)`.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl Extend<Problem> for Problems {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        self.0.extend(problems);
        self.0.sort_by(|a, b| a.location.cmp(&b.location));
    }
}

impl FromIterator<Problem> for Problems {
    fn from_iter<I: IntoIterator<Item = Problem>>(problems: I) -> Self {
        let mut all = Self::default();
        all.extend(problems);
        all
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        let files: BTreeSet<&Path> = self
            .0
            .iter()
            .map(|problem| problem.location.file.as_path())
            .collect();
        let (problems, files) = (self.0.len(), files.len());
        write!(
            f,
            "{problems} problem{} in {files} file{}",
            if problems == 1 { "" } else { "s" },
            if files == 1 { "" } else { "s" }
        )
    }
}

impl std::error::Error for Problems {}

//! A file's bytes to documents, or to what is wrong with the file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::problem::{Location, Position, Problem, Problems};
use crate::yaml::{Node, parse};

/// Largest file that is read, in bytes. An object in a cluster cannot reach half of it.
const LARGEST: usize = 4 << 20;

/// What a file holds. After a syntax error the documents before it are still here.
pub(crate) struct Source {
    pub(crate) documents: Vec<Node>,
    pub(crate) problems: Problems,
}

impl Source {
    pub(crate) fn read(file: &Path) -> Self {
        match text_of(file) {
            Ok(text) => Self::parse(file, &text),
            Err(problem) => Self {
                documents: Vec::new(),
                problems: Problems::from_iter([problem]),
            },
        }
    }

    pub(crate) fn parse(file: &Path, text: &str) -> Self {
        let (documents, faults) = parse(text);
        let problems = faults.into_iter().map(|fault| Problem {
            location: Location::at(file, fault.position),
            key: fault.key,
            message: fault.message,
            hint: fault.hint.map(str::to_owned),
        });
        Self {
            documents,
            problems: problems.collect(),
        }
    }
}

/// The documents of a YAML text as JSON, with unquoted `yes`, `no`, `on` and `off` as the booleans that `kubectl` makes of
/// them; empty documents are left out. `file` is the name in what is reported.
///
/// # Errors
/// What is wrong with the YAML.
pub fn documents(file: &Path, text: &str) -> Result<Vec<Value>, Problems> {
    let Source { documents, problems } = Source::parse(file, text);
    let documents = documents.iter().filter(|document| !document.is_null());
    problems.or(documents.map(Node::to_kubernetes_json).collect())
}

fn text_of(file: &Path) -> Result<String, Problem> {
    let whole = |message: String| Problem::new(Location::file(file), "", message);
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(LARGEST as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| whole(format!("cannot read the file: {error}")))?;
    if bytes.len() > LARGEST {
        return Err(whole(format!("the file is larger than {} MiB", LARGEST >> 20)).hint("split it"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let lines: Vec<&[u8]> = good.split(|byte| *byte == b'\n').collect();
        let last = lines.last().copied().unwrap_or_default();
        let position = Position {
            line: lines.len(),
            column: String::from_utf8_lossy(last).chars().count() + 1,
        };
        Problem::new(Location::at(file, position), "", "not UTF-8 text").hint("save the file as UTF-8")
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

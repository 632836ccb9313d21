//! Which script Python runtimes run (contract operator §3.2): that of `ASYA_RUNTIME_SCRIPT_PATH`, else that of
//! `ASYA_RUNTIME_LOCAL_PATH`, else the one of this build. Nothing is fetched from anywhere.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

use asya_program::environment::text;
use asya_program::{Environment, Reader};
use sha2::{Digest as _, Sha256};

use super::v;
use crate::desired::Script;

/// Where older charts expect the script to lie. Images of this build have none there.
const OLDER_PATH: &str = "/runtime/asya_runtime.py";

impl Script {
    /// The script of this build.
    pub fn embedded() -> Self {
        Self::new(asya_runtime_protocol::PYTHON_RUNTIME.to_owned())
    }

    /// A script with its hash.
    pub fn new(text: String) -> Self {
        let digest = Sha256::digest(&text);
        let hash = digest[..8].iter().fold(String::new(), |mut hash, byte| {
            // Writing to a text cannot fail.
            let _ = write!(hash, "{byte:02x}");
            hash
        });
        Self { text, hash }
    }
}

pub(super) fn choose(reader: &mut Reader<'_>, environment: &Environment<'_>) -> Script {
    if let Some(source) = reader.optional(&v::RUNTIME_SOURCE, text)
        && source != "local"
        && source != "embedded"
    {
        reader.warn(
            &v::RUNTIME_SOURCE,
            "nothing is fetched from elsewhere; the script of this build is used",
        );
    }
    let named = reader.optional(&v::RUNTIME_SCRIPT_PATH, text);
    let local = reader.optional(&v::RUNTIME_LOCAL_PATH, text);
    if let Some(path) = named {
        return from_named(reader, environment, &path).unwrap_or_else(Script::embedded);
    }
    let Some(path) = local else {
        return Script::embedded();
    };
    match (environment.read_file)(Path::new(&path)) {
        Ok(script) if !script.trim().is_empty() => Script::new(script),
        // The original's chart sets this variable, to whatever, and the original reads it nowhere.
        Ok(_) => embedded_since(reader, &v::RUNTIME_LOCAL_PATH, &format!("{path} is empty")),
        Err(error) => embedded_since(
            reader,
            &v::RUNTIME_LOCAL_PATH,
            &format!("cannot read {path}: {error}"),
        ),
    }
}

/// A script that somebody chose is not replaced by another without a word.
fn from_named(reader: &mut Reader<'_>, environment: &Environment<'_>, path: &str) -> Option<Script> {
    let read = (environment.read_file)(Path::new(path));
    if path == OLDER_PATH
        && read
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::NotFound)
    {
        return Some(embedded_since(
            reader,
            &v::RUNTIME_SCRIPT_PATH,
            &format!("there is no {path}"),
        ));
    }
    let script = reader.file(&v::RUNTIME_SCRIPT_PATH, Path::new(path))?;
    if script.trim().is_empty() {
        reader.problem(
            &v::RUNTIME_SCRIPT_PATH,
            format!("{path} is empty; expected a Python script in it"),
        );
        return None;
    }
    Some(Script::new(script))
}

fn embedded_since(reader: &mut Reader<'_>, variable: &'static v::Variable, why: &str) -> Script {
    reader.warn(variable, format!("{why}; using the script of this build"));
    Script::embedded()
}

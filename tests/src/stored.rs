//! Results as they are stored, and whether they lie where they should.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// One object below `results/`.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The actor that its key names.
    pub actor: String,
    /// The id that its key names.
    pub id: String,
    /// The envelope, byte for byte.
    pub bytes: Vec<u8>,
    /// Where it lies.
    pub path: PathBuf,
}

impl Stored {
    /// The envelope as JSON.
    pub fn envelope(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("a stored envelope is JSON")
    }

    /// Its payload as JSON.
    pub fn payload(&self) -> Value {
        self.envelope()["payload"].clone()
    }

    /// The envelope as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.bytes.clone()).expect("a stored envelope is UTF-8")
    }

    /// The envelope as text without the white space between values: stored envelopes are laid out for reading.
    pub fn compact(&self) -> String {
        compact(&self.text())
    }
}

/// JSON without the white space between its values; not a byte of a string or a number is touched.
pub fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let is_part = |c: &char| {
        let was_in_string = in_string;
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = in_string,
            '"' => in_string = !in_string,
            _ => {}
        }
        was_in_string || !c.is_ascii_whitespace()
    };
    json.chars().filter(is_part).collect()
}

/// All objects below `folder`, which is `<results>/happy-asya` or `<results>/error-asya`, in the order of their keys.
/// The layout of each key is checked: `<folder>/<time>/<actor>/<id>.json` (contract data-plane §9).
pub(crate) fn read(folder: &Path) -> Vec<Stored> {
    let mut all: Vec<_> = files(folder)
        .into_iter()
        .filter(|path| !is_in_the_making(path))
        .map(|path| object(folder, path))
        .collect();
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// Files in the making have a `#` in their names, which no key has; they are renamed when they are whole.
fn is_in_the_making(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().contains(&b'#'))
}

fn object(folder: &Path, path: PathBuf) -> Stored {
    let key: Vec<_> = path
        .strip_prefix(folder)
        .expect("it lies below")
        .iter()
        .map(|part| part.to_str().expect("keys are text"))
        .collect();
    let [time, actor, file] = key[..] else {
        panic!("{} is not <time>/<actor>/<id>.json", path.display())
    };
    // 2026-05-01T12:30:00.123456Z
    let shape: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "of {}", path.display());
    let id = file.strip_suffix(".json").expect("results end in .json");
    Stored {
        actor: actor.to_owned(),
        id: id.to_owned(),
        bytes: std::fs::read(&path).expect("a result can be read"),
        path,
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.expect("results can be listed").path());
    paths
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::compact;

    #[test]
    fn white_space_goes_between_values_and_stays_inside_strings() {
        let text = "{ \"a \\\" b\" : [1e400 ,\n \" \\\\\" ] }";
        assert_eq!(compact(text), "{\"a \\\" b\":[1e400,\" \\\\\"]}");
    }
}

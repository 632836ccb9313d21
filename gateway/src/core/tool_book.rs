//! The tools as they are now: read from a file or a directory, and read again when that changes.
//!
//! A new version with mistakes is refused as a whole: the tools stay as they were, and every mistake is logged.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use asya_manifest::{Problems, Tool, Tools};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::metrics;

/// The tools as they are now. Clones share them.
#[derive(Clone)]
pub struct ToolBook(Arc<Book>);

struct Book {
    path: Option<PathBuf>,
    present: ArcSwap<Edition>,
    changed: watch::Sender<u64>,
}

/// One version of the tools.
struct Edition {
    tools: Arc<Tools>,
    by_name: HashMap<String, Arc<Tool>>,
    /// Of the files that it was read from.
    fingerprint: Fingerprint,
}

/// The content of the files, or why it cannot be read.
type Fingerprint = Result<[u8; 32], io::ErrorKind>;

impl ToolBook {
    /// Reads a tool file, or the tool files directly in a directory. A gateway that is started with it reads them
    /// again when they change.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn open(path: &Path) -> Result<Self, Problems> {
        // Before the tools: what changes in between is found at the next look.
        let fingerprint = fingerprint(path);
        let tools = Tools::load(path)?;
        Ok(Self::new(Some(path.to_path_buf()), tools, fingerprint))
    }

    /// These tools, which never change.
    pub fn fixed(tools: Tools) -> Self {
        Self::new(None, tools, Ok([0; 32]))
    }

    /// No tools: what a gateway without a tool file offers (contract gateway §2.6).
    pub fn empty() -> Self {
        Self::fixed(Tools::default())
    }

    fn new(path: Option<PathBuf>, tools: Tools, fingerprint: Fingerprint) -> Self {
        Self(Arc::new(Book {
            path,
            present: ArcSwap::from_pointee(Edition::new(tools, fingerprint)),
            changed: watch::Sender::new(0),
        }))
    }

    /// All tools, in file order.
    pub fn tools(&self) -> Arc<Tools> {
        Arc::clone(&self.0.present.load().tools)
    }

    /// The tool of this name.
    pub fn tool(&self, name: &str) -> Option<Arc<Tool>> {
        self.0.present.load().by_name.get(name).cloned()
    }

    /// Counts the versions, from 0.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Looks at the files every `pause` until `stop`.
    pub(super) async fn follow(self, pause: Duration, stop: CancellationToken) {
        if self.0.path.is_none() {
            return stop.cancelled().await;
        }
        // What was refused is not read again before it changes.
        let mut seen = self.0.present.load().fingerprint;
        while stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_some()
        {
            let book = self.clone();
            let looking = tokio::task::spawn_blocking(move || book.look(seen));
            if let Some(Ok(found)) = stop.run_until_cancelled(looking).await {
                seen = found;
            }
        }
    }

    /// Reads the files if they are not those of the fingerprint; returns the new fingerprint.
    fn look(&self, seen: Fingerprint) -> Fingerprint {
        let Some(path) = &self.0.path else { return seen };
        let found = fingerprint(path);
        if found == seen {
            return seen;
        }
        if found == Err(NO_FILE) {
            metrics::tool_reload("refused");
            tracing::error!(path = %path.display(), "the tools are no regular file any more; the old ones stay");
            return found;
        }
        match Tools::load(path) {
            Ok(tools) => {
                tracing::info!(path = %path.display(), tools = tools.tools.len(), "tools read again");
                metrics::tool_reload("taken");
                let same = *self.tools() == tools;
                self.0.present.store(Arc::new(Edition::new(tools, found)));
                if !same {
                    self.0.changed.send_modify(|version| *version += 1);
                }
            }
            Err(problems) => {
                metrics::tool_reload("refused");
                tracing::error!(path = %path.display(), "the changed tools are refused, the old ones stay: {problems}");
            }
        }
        found
    }
}

impl Edition {
    fn new(tools: Tools, fingerprint: Fingerprint) -> Self {
        let by_name = tools
            .tools
            .iter()
            .map(|tool| (tool.name.clone(), Arc::new(tool.clone())));
        Self {
            by_name: by_name.collect(),
            tools: Arc::new(tools),
            fingerprint,
        }
    }
}

/// Reading a pipe or a device may never end.
const NO_FILE: io::ErrorKind = io::ErrorKind::InvalidInput;

/// The names and contents of all files that may hold tools.
fn fingerprint(path: &Path) -> Fingerprint {
    let mut hash = Sha256::new();
    for file in files(path).map_err(|error| error.kind())? {
        let found = fs::metadata(&file).map_err(|error| error.kind())?;
        if !found.is_file() {
            return Err(NO_FILE);
        }
        let content = fs::read(&file).map_err(|error| error.kind())?;
        let name = file.as_os_str().as_encoded_bytes();
        for part in [name, &content] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
    }
    Ok(hash.finalize().into())
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let yaml = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, tools: &[&str]) {
        let tools: Vec<String> = tools
            .iter()
            .map(|name| format!("{{name: {name}, route: [a]}}"))
            .collect();
        fs::write(path, format!("tools: [{}]\n", tools.join(", "))).unwrap();
    }

    fn names(book: &ToolBook) -> Vec<String> {
        book.tools().tools.iter().map(|tool| tool.name.clone()).collect()
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_everybody_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tools.yaml");
        write(&file, &["one"]);
        let book = ToolBook::open(&file).unwrap();
        let stop = CancellationToken::new();
        let following = tokio::spawn(book.clone().follow(Duration::from_millis(5), stop.clone()));
        let mut changed = book.changed();
        write(&file, &["one", "two"]);
        tokio::time::timeout(Duration::from_secs(20), changed.changed())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(names(&book), ["one", "two"]);
        assert!(book.tool("two").is_some());
        stop.cancel();
        following.await.unwrap();
    }

    #[test]
    fn a_broken_new_version_keeps_the_old_tools() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tools.yaml");
        write(&file, &["one"]);
        let book = ToolBook::open(&file).unwrap();
        let first = book.0.present.load().fingerprint;
        fs::write(&file, "tools: [{name: '', route: x}]\n").unwrap();
        let refused = book.look(first);
        assert_eq!(
            (names(&book), *book.changed().borrow()),
            (vec!["one".to_owned()], 0)
        );
        assert_eq!(book.look(refused), refused, "what was refused is not read again");
        fs::remove_file(&file).unwrap();
        let gone = book.look(refused);
        assert_eq!(names(&book), ["one"], "a file that is gone is a broken one");
        let socket = std::os::unix::net::UnixListener::bind(&file).unwrap();
        assert_eq!(book.look(gone), Err(NO_FILE), "what is no file is not read");
        drop(socket);
        fs::remove_file(&file).unwrap();
        write(&file, &["three"]);
        assert!(book.look(gone).is_ok());
        assert_eq!(
            (names(&book), *book.changed().borrow()),
            (vec!["three".to_owned()], 1)
        );
    }

    #[test]
    fn a_directory_is_watched_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        write(&directory.path().join("a.yaml"), &["one"]);
        let book = ToolBook::open(directory.path()).unwrap();
        let mut seen = book.0.present.load().fingerprint;
        write(&directory.path().join("b.yaml"), &["two"]);
        seen = book.look(seen);
        assert_eq!(names(&book), ["one", "two"]);
        fs::rename(directory.path().join("a.yaml"), directory.path().join("c.yaml")).unwrap();
        seen = book.look(seen);
        assert_eq!(names(&book), ["two", "one"]);
        write(&directory.path().join("b.yaml"), &["one"]);
        assert_ne!(book.look(seen), seen);
        assert_eq!(
            names(&book),
            ["two", "one"],
            "a name that is there twice is refused"
        );
    }

    #[test]
    fn no_tools_are_a_list_too() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tools.yaml");
        write(&file, &[]);
        assert!(names(&ToolBook::open(&file).unwrap()).is_empty());
        assert!(names(&ToolBook::empty()).is_empty());
        assert!(ToolBook::open(&directory.path().join("none.yaml")).is_err());
    }
}

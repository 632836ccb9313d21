//! A directory of manifests and handlers.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::manifest::Actor;
use crate::processes::processes_under;
use crate::queue::Queue;
use crate::running::Asya;
use crate::stored::{Stored, read};
use crate::waiting::wait_for;

/// A pipeline of its own: directory, state, and a mark that all its processes carry. Whatever is still alive at the
/// end of a test is killed, so that one failed test does not disturb the others.
#[derive(Debug)]
pub struct Pipeline {
    root: TempDir,
    directory: PathBuf,
    state: PathBuf,
    mark: String,
}

impl Pipeline {
    /// An empty directory with its state beside the manifests, as by default.
    #[must_use]
    pub fn new() -> Self {
        Self::named("pipeline")
    }

    /// The same, with this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let root = tempfile::Builder::new()
            .prefix("asya-e2e-")
            .tempdir()
            .expect("a temporary directory is made");
        let directory = root.path().join(name);
        std::fs::create_dir(&directory).expect("a directory is made");
        let mark = root.path().file_name().expect("it has a name");
        Self {
            mark: mark.to_str().expect("which is text").to_owned(),
            state: directory.join(".asya"),
            directory,
            root,
        }
    }

    /// A directory that exists already and is not to be written to; its state lies elsewhere.
    #[must_use]
    pub fn existing(directory: &Path) -> Self {
        let mut pipeline = Self::new();
        pipeline.directory = directory.to_path_buf();
        pipeline.with_state("state")
    }

    /// Its state lies at this path below a temporary directory instead.
    #[must_use]
    pub fn with_state(mut self, path: &str) -> Self {
        self.state = self.root.path().join(path);
        self
    }

    /// Writes a file into the directory.
    #[must_use]
    pub fn file(self, name: &str, text: &str) -> Self {
        self.write(name, text);
        self
    }

    /// Adds an actor to `actors.yaml`.
    #[must_use]
    pub fn actor(self, actor: &Actor) -> Self {
        let path = self.path("actors.yaml");
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        self.write("actors.yaml", &(before + &actor.yaml()));
        self
    }

    /// Writes a file into the directory, now.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).expect("a file is written");
    }

    /// What a file in the directory holds; nothing when it does not exist.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The mark of its processes.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// `asya COMMAND DIR`, with the state directory when it is not the default one.
    pub fn asya(&self, command: &str) -> Asya {
        let asya = self.bare_asya().arg(command).arg(&self.directory);
        if self.state == self.directory.join(".asya") {
            asya
        } else {
            asya.arg("--state-dir").arg(&self.state)
        }
    }

    /// `asya` without anything.
    pub fn bare_asya(&self) -> Asya {
        Asya::new(&self.mark, self.root.path())
    }

    /// Its queue, from outside.
    pub fn queue(&self) -> Queue {
        Queue::open(&self.state)
    }

    /// What `happy-end` has stored.
    pub fn happy(&self) -> Vec<Stored> {
        read(&self.state.join("results/happy-asya"))
    }

    /// What `error-end` has stored.
    pub fn errors(&self) -> Vec<Stored> {
        read(&self.state.join("results/error-asya"))
    }

    /// Waits until no process of it is left.
    pub fn await_no_process(&self) {
        wait_for("the end of all processes", || {
            processes_under(&self.mark).is_empty().then_some(())
        });
    }

    /// Nothing is left: no process, no message in any queue, no dead letter.
    pub fn assert_at_rest(&self) {
        assert_eq!(processes_under(&self.mark), [], "no process is left");
        assert_eq!(self.queue().messages(), 0, "no message is left");
    }
}

impl Default for Pipeline {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        for process in processes_under(&self.mark) {
            process.signal(Signal::KILL);
        }
    }
}

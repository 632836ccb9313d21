//! A directory of manifests, read and checked as a whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::actor::{self, API_VERSION, Actor, GROUP, KIND};
use crate::path::KeyPath;
use crate::problem::{Location, Problem, Problems};
use crate::shape::{Findings, Shape, conform};
use crate::source::Source;
use crate::suggest;
use crate::tools::Tools;
use crate::yaml::Node;

/// Names of the tool file.
pub const TOOL_FILES: [&str; 2] = ["asya.yaml", "asya.yml"];

/// The actors of a directory and its tool file.
///
/// Every regular file `*.yaml` or `*.yml` directly in the directory is read, in name order, each of its documents
/// on its own; subdirectories are not, so helm charts and state beside the manifests do no harm. `asya.yaml` (or
/// `asya.yml`) is the gateway's tool file. A Kubernetes `List` is read as its items. Documents of other kinds
/// (`ConfigMap`, values of a chart) are passed over with a notice.
#[derive(Debug, Clone, PartialEq)]
pub struct Directory {
    /// The directory as it was given.
    pub path: PathBuf,
    /// The actors in file order; at least one, no two of one name.
    pub actors: Vec<Actor>,
    /// The tool file, if there is one.
    pub tools: Option<Tools>,
    /// Remarks that stop nothing: documents passed over, fields without effect, routes that leave the directory.
    pub notices: Problems,
}

/// What a directory holds, as far as it is right, and what is wrong with the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// The actors and tools that were read without a problem.
    pub directory: Directory,
    /// All problems, in reading order.
    pub problems: Problems,
}

impl Directory {
    /// Reads and checks a directory.
    ///
    /// # Errors
    /// Everything that is wrong with any file, at once, in reading order.
    pub fn load(dir: &Path) -> Result<Self, Problems> {
        let Inspection { directory, problems } = Self::inspect(dir);
        problems.or(directory)
    }

    /// Reads and checks a directory, and gives what is right of it beside what is wrong, for callers who can find
    /// more problems in the rest before they report them all.
    pub fn inspect(dir: &Path) -> Inspection {
        let mut loading = Loading::default();
        let files = yaml_files(dir).unwrap_or_else(|problems| {
            loading.problems.extend(problems.iter().cloned());
            Vec::new()
        });
        let is_tool_file = |file: &PathBuf| {
            file.file_name()
                .is_some_and(|name| TOOL_FILES.iter().any(|tool_file| name == *tool_file))
        };
        let (tool_files, manifests): (Vec<_>, Vec<_>) = files.into_iter().partition(is_tool_file);
        for file in &manifests {
            loading.manifest(file);
        }
        let tools = loading.tools(&tool_files);
        let mut inspection = loading.finish(dir, || nothing_found_hint(dir));
        inspection.directory.tools = tools;
        if inspection.problems.is_empty() {
            inspection.directory.notice_foreign_routes();
        }
        inspection
    }

    /// Reads and checks a single manifest file, whatever its name; there are no tools.
    pub fn inspect_file(file: &Path) -> Inspection {
        let mut loading = Loading::default();
        loading.manifest(file);
        loading.finish(file, || format!("give a file with `kind: {KIND}`"))
    }

    /// The actor of this name.
    pub fn actor(&self, name: &str) -> Option<&Actor> {
        self.actors.iter().find(|actor| actor.name == name)
    }

    fn notice_foreign_routes(&mut self) {
        let tools = self.tools.iter().flat_map(|tools| &tools.tools);
        let mut notices = Vec::new();
        for tool in tools {
            let foreign = |name: &&String| self.actor(name).is_none() && !actor::is_end_actor(name);
            let strangers: Vec<&str> = tool.route.iter().filter(foreign).map(String::as_str).collect();
            if !strangers.is_empty() {
                let message = format!(
                    "tool {:?}: no actor here is named {}",
                    tool.name,
                    strangers.join(", ")
                );
                notices.push(Problem::new(tool.source.clone(), "", message));
            }
        }
        self.notices.extend(notices);
    }
}

#[derive(Default)]
struct Loading {
    actors: Vec<Actor>,
    /// Names seen, also of actors with problems, and where.
    names: BTreeMap<String, Location>,
    problems: Problems,
    notices: Problems,
}

impl Loading {
    /// What was read from `path`; no actor at all is a mistake too.
    fn finish(mut self, path: &Path, hint: impl FnOnce() -> String) -> Inspection {
        if self.actors.is_empty() && self.problems.is_empty() {
            let what = if path.is_dir() { "directory" } else { "file" };
            let problem = Problem::new(
                Location::file(path),
                "",
                format!("no {KIND} found in this {what}"),
            );
            self.problems.push(problem.hint(hint()));
        }
        Inspection {
            directory: Directory {
                path: path.to_path_buf(),
                actors: self.actors,
                tools: None,
                notices: self.notices,
            },
            problems: self.problems,
        }
    }

    fn manifest(&mut self, file: &Path) {
        let source = Source::read(file);
        self.problems.extend(source.problems);
        let mut found = Findings::new(file);
        for document in source.documents {
            self.document(document, &KeyPath::default(), &mut found);
        }
        self.problems.extend(found.problems);
        self.notices.extend(found.notices);
    }

    fn document(&mut self, mut document: Node, root: &KeyPath, found: &mut Findings<'_>) {
        match classify(&document) {
            Document::Empty => {}
            Document::List => {
                for (index, item) in document
                    .get("items")
                    .map(Node::items)
                    .unwrap_or_default()
                    .iter()
                    .enumerate()
                {
                    self.document(item.clone(), &root.key("items").index(index), found);
                }
            }
            Document::Other(what) => {
                found.notice(
                    document.position,
                    root,
                    format!("{what} is not an {KIND}; passed over"),
                    "",
                );
            }
            Document::Actor => {
                let before = found.problems.len();
                let at = document.position;
                conform(&mut document, &Shape::Record(&actor::MANIFEST), at, root, found);
                actor::check(&document, root, found);
                self.name(&document, root, found);
                if found.problems.len() == before {
                    match Actor::read(&document, root, found.file) {
                        Ok(actor) => self.actors.push(actor),
                        Err(error) => found.problem(at, root, error.to_string(), ""),
                    }
                }
            }
        }
    }

    /// Queues have no namespace, so neither have names here.
    fn name(&mut self, document: &Node, root: &KeyPath, found: &mut Findings<'_>) {
        let Some(node) = document.at(&["metadata", "name"]) else {
            return;
        };
        let Some(name) = node.text() else { return };
        if let Some(first) = self.names.get(name) {
            let message = format!("two actors are named {name:?}; the first is at {first}");
            found.problem(
                node.position,
                &root.keys(&["metadata", "name"]),
                message,
                "rename one of the two",
            );
        } else {
            self.names
                .insert(name.to_owned(), Location::at(found.file, node.position));
        }
    }

    fn tools(&mut self, files: &[PathBuf]) -> Option<Tools> {
        if let [first, second, ..] = files {
            let message = format!("there is already {}", first.display());
            self.problems
                .push(Problem::new(Location::file(second), "", message).hint("keep one of the two"));
        }
        match Tools::load(files.first()?) {
            Ok(tools) => Some(tools),
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }
}

enum Document {
    Empty,
    Actor,
    List,
    /// Not ours, described.
    Other(String),
}

/// Ours is what says so, and what only fails to say so by a slip.
fn classify(document: &Node) -> Document {
    if document.is_null() {
        return Document::Empty;
    }
    let text = |key: &str| document.get(key).and_then(Node::text).unwrap_or_default();
    let (kind, api_version) = (text("kind"), text("apiVersion"));
    if kind == "List" || (kind == "AsyncActorList" && api_version == API_VERSION) {
        return Document::List;
    }
    let in_group = api_version.split('/').next() == Some(GROUP);
    let ours = ["transport", "workload"]
        .iter()
        .any(|key| document.at(&["spec", key]).is_some());
    let meant = suggest::nearest(kind, std::iter::once(KIND)).is_some() || document.get("kind").is_none();
    if kind == KIND || in_group || (ours && meant) {
        return Document::Actor;
    }
    Document::Other(match kind {
        "" => "a document without `kind`".to_owned(),
        kind => format!("{kind:?}"),
    })
}

/// Regular files with a YAML name, sorted by it.
fn yaml_files(dir: &Path) -> Result<Vec<PathBuf>, Problems> {
    let unreadable = |error: std::io::Error| {
        let problem = Problem::new(
            Location::file(dir),
            "",
            format!("cannot read the directory: {error}"),
        );
        Problems::from_iter([problem.hint("give the directory that holds the AsyncActor manifests")])
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // A broken symbolic link counts as a file here: reading it reports what is wrong.
        let readable = fs::metadata(&path).map_or(true, |metadata| metadata.is_file());
        if readable && is_yaml(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn nothing_found_hint(dir: &Path) -> String {
    let below = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let with_yaml = |path: &PathBuf| path.is_dir() && yaml_files(path).is_ok_and(|files| !files.is_empty());
    match below.filter(with_yaml).min() {
        Some(path) => format!("subdirectories are not read; did you mean {}?", path.display()),
        None => format!("put a file *.yaml with `kind: {KIND}` there"),
    }
}

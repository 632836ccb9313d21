//! Tool files to [`Tools`]: merge first, then check, so that a tool may use a template of another file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::parameter::Parameter;
use super::shape::TOOL_FILE;
use super::{Tool, ToolMode, Tools};
use crate::path::KeyPath;
use crate::problem::{Location, Position, Problem, Problems};
use crate::shape::{Findings, Shape, conform};
use crate::source::Source;
use crate::yaml::{Entry, Kind, Node};

/// Longest name of a tool or an actor, in bytes, as the gateway takes it.
const LONGEST_NAME: usize = 1024;
/// Seconds, when neither the tool nor `defaults` says otherwise.
const DEFAULT_TIMEOUT: i64 = 300;

impl Tools {
    /// Reads a tool file, or every `*.yaml` and `*.yml` directly in a directory in name order.
    ///
    /// Files are merged before they are checked: tools concatenated, route templates united, `defaults` of the
    /// last file that has them. `tools: []` is allowed; a file (or directory) without any `tools` is not.
    ///
    /// # Errors
    /// Everything that is wrong, at once; messages follow contract gateway §2.5.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let mut merged = Merged::default();
        for file in files(path)? {
            merged.read(&file);
        }
        merged.finish(path)
    }
}

/// The path itself, or the files in it.
fn files(path: &Path) -> Result<Vec<PathBuf>, Problems> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let whole = |message: String| Problems::from_iter([Problem::new(Location::file(path), "", message)]);
    let entries = fs::read_dir(path).map_err(|error| whole(format!("cannot read the directory: {error}")))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml")
                && path.is_file()
        })
        .collect();
    files.sort();
    if files.is_empty() {
        Err(whole("no YAML files found in directory".to_owned()))
    } else {
        Ok(files)
    }
}

/// A file of the right shape, not yet interpreted.
struct ToolFile {
    file: PathBuf,
    tools: Vec<Node>,
}

#[derive(Default)]
struct Defaults {
    progress: bool,
    timeout: Option<i64>,
}

#[derive(Default)]
struct Merged {
    files: Vec<ToolFile>,
    /// Whether any file has the key `tools`.
    has_tools: bool,
    routes: BTreeMap<String, (Vec<String>, PathBuf)>,
    defaults: Defaults,
    problems: Problems,
}

impl Merged {
    fn read(&mut self, file: &Path) {
        let source = Source::read(file);
        let broken = !source.problems.is_empty();
        self.problems.extend(source.problems);
        let mut documents = source
            .documents
            .into_iter()
            .filter(|document| !document.is_null());
        let Some(mut document) = documents.next() else {
            if !broken {
                self.problems
                    .push(Problem::new(Location::file(file), "", "the file is empty (EOF)"));
            }
            return;
        };
        let mut found = Findings::new(file);
        if let Some(second) = documents.next() {
            let hint = "write one document; in a directory of tool files each may have its own";
            found.problem(
                second.position,
                &KeyPath::default(),
                "a second document in a tool file",
                hint,
            );
        }
        if document.get("kind").is_some() && document.get("tools").is_none() {
            let hint = "rename the file: this name is the tool file's";
            found.problem(
                document.position,
                &KeyPath::default(),
                "a manifest in place of a tool file",
                hint,
            );
        } else {
            let at = document.position;
            conform(
                &mut document,
                &Shape::Record(&TOOL_FILE),
                at,
                &KeyPath::default(),
                &mut found,
            );
            self.take(&document, &mut found);
        }
        self.problems.extend(found.problems);
    }

    fn take(&mut self, document: &Node, found: &mut Findings<'_>) {
        self.has_tools |= document.get("tools").is_some();
        let tools = document
            .get("tools")
            .map(Node::items)
            .unwrap_or_default()
            .to_vec();
        for entry in document.get("routes").map(Node::entries).unwrap_or_default() {
            self.route(entry, found);
        }
        if let Some(defaults) = document.get("defaults") {
            self.defaults = Defaults {
                progress: defaults.get("progress").is_some_and(is_true),
                timeout: defaults.get("timeout").and_then(Node::integer),
            };
        }
        self.files.push(ToolFile {
            file: found.file.to_path_buf(),
            tools,
        });
    }

    fn route(&mut self, entry: &Entry, found: &mut Findings<'_>) {
        let name = &entry.key;
        let path = KeyPath::default().keys(&["routes", name]);
        if let Some((_, first)) = self.routes.get(name) {
            let message = format!(
                "duplicate route template across configs: {name:?}, first in {}",
                first.display()
            );
            return found.problem(entry.position, &path, message, "rename one of the two");
        }
        let actors = entry
            .value
            .items()
            .iter()
            .filter_map(Node::text)
            .map(str::to_owned)
            .collect();
        self.routes
            .insert(name.clone(), (actors, found.file.to_path_buf()));
    }

    fn finish(mut self, path: &Path) -> Result<Tools, Problems> {
        if !self.has_tools && self.problems.is_empty() {
            let problem = Problem::new(Location::file(path), "tools", "no tools defined");
            self.problems
                .push(problem.hint("add `tools:`, or `tools: []` for none"));
        }
        let mut tools = Vec::new();
        let mut names: BTreeMap<String, PathBuf> = BTreeMap::new();
        for ToolFile { file, tools: nodes } in std::mem::take(&mut self.files) {
            let mut found = Findings::new(&file);
            for (index, node) in nodes.iter().enumerate() {
                let path = KeyPath::default().key("tools").index(index);
                tools.extend(self.tool(node, &path, &mut names, &mut found));
            }
            self.problems.extend(found.problems);
        }
        let routes = self
            .routes
            .into_iter()
            .map(|(name, (actors, _))| (name, actors))
            .collect();
        self.problems.or(Tools { tools, routes })
    }

    /// `None` after a problem; the shape has reported values of a wrong type.
    fn tool(
        &self,
        node: &Node,
        path: &KeyPath,
        names: &mut BTreeMap<String, PathBuf>,
        found: &mut Findings<'_>,
    ) -> Option<Tool> {
        let name = tool_name(node, path, names, found)?;
        let label = format!("tool {name:?}");
        let parameters = Parameter::read_all(node.get("parameters"), &path.key("parameters"), &label, found);
        let route = self.tool_route(node, &label, path, found);
        let timeout = self.tool_timeout(node, &label, path, found);
        let text = |key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
        let metadata = node.get("metadata").map(Node::entries).unwrap_or_default();
        Some(Tool {
            name,
            title: text("title"),
            description: text("description").unwrap_or_default(),
            parameters,
            additional_properties: node.get("additionalProperties").is_none_or(is_true),
            route: route?,
            progress: node.get("progress").map_or(self.defaults.progress, is_true),
            timeout,
            metadata: metadata
                .iter()
                .filter_map(|entry| Some((entry.key.clone(), entry.value.text()?.to_owned())))
                .collect(),
            annotations: node
                .get("annotations")
                .and_then(|node| node.to_json().as_object().cloned()),
            output_schema: node.get("output_schema").map(Node::to_json),
            mode: text("mode")
                .and_then(|word| ToolMode::parse(&word))
                .unwrap_or_default(),
            source: Location::at(found.file, node.position),
        })
    }

    fn tool_timeout(
        &self,
        node: &Node,
        tool: &str,
        path: &KeyPath,
        found: &mut Findings<'_>,
    ) -> Option<Duration> {
        let own = node.get("timeout").and_then(|node| Some((node, node.integer()?)));
        if let Some((node, _)) = own.filter(|(_, seconds)| *seconds < 0) {
            let message = format!("{tool}: timeout cannot be negative");
            found.problem(
                node.position,
                &path.key("timeout"),
                message,
                "write seconds, or 0 for none",
            );
        }
        let seconds = own
            .map(|(_, seconds)| seconds)
            .or(self.defaults.timeout)
            .unwrap_or(DEFAULT_TIMEOUT);
        u64::try_from(seconds)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs)
    }

    fn tool_route(
        &self,
        tool: &Node,
        label: &str,
        path: &KeyPath,
        found: &mut Findings<'_>,
    ) -> Option<Vec<String>> {
        let path = path.key("route");
        let (at, route) = match tool.get("route") {
            Some(node) => (node.position, self.resolve(node)),
            None => (tool.position, Err("route has no actors or template".to_owned())),
        };
        route
            .map_err(|reason| invalid_route(at, label, &reason, &path, found))
            .ok()
    }

    fn resolve(&self, node: &Node) -> Result<Vec<String>, String> {
        const SHAPE: &str = "route must be either an array of strings or a template name";
        let actors = match (&node.kind, node.text()) {
            (Kind::List(items), _) => items
                .iter()
                .map(|item| item.text().or(item.plain.as_deref().filter(|_| !item.is_null())))
                .map(|actor| actor.map(str::to_owned).ok_or(SHAPE.to_owned()))
                .collect::<Result<Vec<_>, _>>()?,
            (_, Some(name)) => {
                let template = self.routes.get(name);
                template
                    .map(|(actors, _)| actors.clone())
                    .ok_or(format!("route template {name:?} not found"))?
            }
            _ => return Err(SHAPE.to_owned()),
        };
        if actors.is_empty() {
            return Err("route has no actors or template".to_owned());
        }
        if actors.iter().any(String::is_empty) {
            return Err("an actor's name is empty".to_owned());
        }
        match actors.iter().find_map(|actor| unfit(actor)) {
            Some(reason) => Err(format!("an actor's name {reason}")),
            None => Ok(actors),
        }
    }
}

fn invalid_route(at: Position, tool: &str, reason: &str, path: &KeyPath, found: &mut Findings<'_>) {
    let hint = "write `route: [first, second]`, or the name of a template under `routes`";
    found.problem(at, path, format!("{tool}: invalid route: {reason}"), hint);
}

/// Why envelopes with this name could not be stored.
fn unfit(name: &str) -> Option<&'static str> {
    if name.contains('\0') {
        Some("cannot hold U+0000")
    } else if name.len() > LONGEST_NAME {
        Some("is longer than 1024 bytes")
    } else {
        None
    }
}

fn tool_name(
    node: &Node,
    path: &KeyPath,
    names: &mut BTreeMap<String, PathBuf>,
    found: &mut Findings<'_>,
) -> Option<String> {
    if !matches!(node.kind, Kind::Map(_)) {
        return None;
    }
    let path = path.key("name");
    let at = node.get("name").map_or(node.position, |name| name.position);
    let name = match node.get("name") {
        Some(name) => name.text()?,
        None => "",
    };
    if name.is_empty() {
        found.problem(at, &path, "tool name cannot be empty", "add a unique `name:`");
        return None;
    }
    if let Some(reason) = unfit(name) {
        found.problem(at, &path, format!("tool name {reason}"), "rename the tool");
    }
    match names.get(name) {
        Some(first) if first == found.file => {
            found.problem(
                at,
                &path,
                format!("duplicate tool name: {name:?}"),
                "rename one of the two",
            );
        }
        Some(first) => {
            let message = format!(
                "duplicate tool name across configs: {name:?}, first in {}",
                first.display()
            );
            found.problem(at, &path, message, "rename one of the two");
        }
        None => {
            names.insert(name.to_owned(), found.file.to_path_buf());
        }
    }
    Some(name.to_owned())
}

pub(super) fn is_true(node: &Node) -> bool {
    node.kind == Kind::Bool(true)
}
